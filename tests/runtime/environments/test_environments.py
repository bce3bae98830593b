"""Packages of plugins: each plugin finds its own, made once, without a network, and nothing half made is ever used."""

import asyncio
import hashlib
import shutil
import socket
import stat
from pathlib import Path

import pytest

from portway.v1 import runtime_pb2
from tests.runtime.environments.conftest import CODE, Open, needing
from tests.runtime.environments.wheels import make_wheel
from tests.runtime.folders import write_plugin
from tests.waiting import until

PATHS = """
import sys
from portway.runtime.sdk import AgentRunner, MessageCompleted


class Runner(AgentRunner):
    async def run(self, ctx, host):
        try:
            import sqlalchemy
            yield MessageCompleted.of_text("the runtime's packages can be seen")
        except ImportError:
            yield MessageCompleted.of_text(sys.prefix)
"""


async def test_two_plugins_have_two_versions_of_one_package_without_any_network(live: Open, plugins: Path) -> None:
    for name, version in (("one", "1.0"), ("two", "2.0")):
        make_wheel(needing(plugins, name, f"[little=={version}]") / "wheels", "little", version)
    async with live() as runtime:
        assert await runtime.says("one") == "1.0"
        assert await runtime.says("two") == "2.0"
        assert len(runtime.made()) == 2


async def test_what_was_made_once_is_used_again_when_its_source_is_gone(
    live: Open, plugins: Path, tmp_path: Path
) -> None:
    needing(plugins, "one", "[little]")
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "little")
    async with live(find_links=(wheels,)) as runtime:
        assert await runtime.says("one") == "1.0"
        made = runtime.made()
    shutil.rmtree(wheels)
    async with live() as runtime:
        assert await runtime.says("one") == "1.0"
        assert runtime.made() == made


async def test_equal_needs_share_one_environment_however_many_ask_at_once(
    live: Open, plugins: Path, tmp_path: Path
) -> None:
    make_wheel(tmp_path / "wheels", "little")
    names = [f"number-{number}" for number in range(5)]
    for name in names:
        needing(plugins, name, "[little==1.0]")
    async with live(find_links=(tmp_path / "wheels",), offline=True) as runtime:
        assert await asyncio.gather(*(runtime.says(name) for name in names)) == ["1.0"] * 5
        assert len(runtime.made()) == 1


async def test_a_forged_wheel_reaches_nobody_but_the_plugin_that_brings_it(live: Open, plugins: Path) -> None:
    honest, forger = needing(plugins, "honest", "[little==1.0]"), needing(plugins, "forger", "[little==1.0]")
    make_wheel(honest / "wheels", "little")
    make_wheel(forger / "wheels", "little", code="VERSION = 'forged'\n")
    async with live() as runtime:
        assert [await runtime.says("forger"), await runtime.says("honest")] == ["forged", "1.0"]


async def test_a_requirements_file_with_hashes_is_found_and_held_to(live: Open, plugins: Path) -> None:
    for name, forged in (("good", False), ("bad", True)):
        folder = write_plugin(plugins, name, code=CODE)
        wheel = make_wheel(folder / "wheels", "little")
        digest = "0" * 64 if forged else hashlib.sha256(wheel.read_bytes()).hexdigest()
        (folder / "requirements.txt").write_text(f"# what it needs\nlittle==1.0 \\\n    --hash=sha256:{digest}\n")
    async with live() as runtime:
        assert await runtime.says("good") == "1.0"
        why = await runtime.broken("bad")
        assert "little==1.0: a file has another hash than the requirements allow" in why


async def test_nothing_of_the_runtimes_own_packages_is_seen(live: Open, plugins: Path) -> None:
    make_wheel(needing(plugins, "one", "[little]", PATHS) / "wheels", "little")
    async with live() as runtime:
        assert await runtime.says("one") == str(runtime.environments / runtime.made()[0])


@pytest.mark.parametrize(
    ("requirements", "part"),
    [
        ("[missing==1.0]", "missing==1.0: the package index cannot be reached; set runtime.environments.index, or put"),
        ("[little==9.0]", "little==9.0: the requirements cannot be met together"),
        ("['little==1.0', 'needs-new']", "little==1.0: the requirements cannot be met together; change the versions"),
        ("[elsewhere]", "elsewhere: there is no wheel for this Python and machine, and nothing is built here; put a"),
        ("[protobuf]", "protobuf: the SDK in the same process needs protobuf=="),
    ],
)
async def test_what_cannot_be_had_is_told_with_its_name_and_touches_nobody_else(
    live: Open, plugins: Path, requirements: str, part: str
) -> None:
    wheels = needing(plugins, "one", requirements) / "wheels"
    for version in ("1.0", "2.0"):
        make_wheel(wheels, "little", version)
    make_wheel(wheels, "needs-new", needs=["little==2.0"])
    make_wheel(wheels, "elsewhere", tag="cp27-cp27m-win32")
    make_wheel(wheels, "protobuf")
    write_plugin(plugins, "other", says="fine")
    async with live(offline=requirements != "[missing==1.0]") as runtime:
        assert part in await runtime.broken("one")
        assert await runtime.says("other") == "fine"
        assert runtime.made() == []
        async with runtime.host.run("ok", "plugin:test/one/default") as run:
            failure = await run.failure()
        assert failure.reason == "RUNNER_UNAVAILABLE"


async def test_a_plugin_becomes_usable_once_its_package_is_there(live: Open, plugins: Path) -> None:
    folder = needing(plugins, "one", "[little]")
    async with live(offline=True) as runtime:
        assert "is not found in the wheels that are there" in await runtime.broken("one")
        make_wheel(folder / "wheels", "little")
        await runtime.stub.ReloadPlugins(runtime_pb2.ReloadPluginsRequest())
        assert await runtime.says("one") == "1.0"


async def test_an_environment_may_not_fill_the_disk(live: Open, plugins: Path) -> None:
    folder = needing(plugins, "one", "[little]")
    make_wheel(folder / "wheels", "little", code=f"VERSION = '1.0'\n# {'x' * 4_000_000}\n")
    async with live(max_mb=2) as runtime:
        assert "take more than 2 MB" in await runtime.broken("one")
        assert runtime.made() == []


async def test_an_index_that_never_answers_is_given_up(live: Open, plugins: Path) -> None:
    needing(plugins, "one", "[little]")
    # The kernel takes connections, and nobody else does.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with live(index=f"http://127.0.0.1:{port}/", seconds=1.0) as runtime:
            assert "were not installed within 1 seconds" in await runtime.broken("one")
            assert runtime.made() == []


async def test_unused_environments_are_removed_and_those_of_plugins_stay(live: Open, plugins: Path) -> None:
    for name in ("one", "two"):
        make_wheel(needing(plugins, name, f"[little, {name}]") / "wheels", "little")
        make_wheel(plugins / name / "wheels", name)
    async with live(keep=0) as runtime:
        await asyncio.gather(runtime.says("one"), runtime.says("two"))
        before = runtime.made()
        assert len(before) == 2
        shutil.rmtree(plugins / "two")
        make_wheel(plugins / "one" / "wheels", "little", "1.5")
        await runtime.stub.ReloadPlugins(runtime_pb2.ReloadPluginsRequest())
        assert await runtime.says("one") == "1.5"
        # The old process of the plugin has the old packages until it is gone; then one environment is left.
        await runtime.stub.ReloadPlugins(runtime_pb2.ReloadPluginsRequest())
        await until(lambda: not set(before) <= set(runtime.made()))


async def test_an_installation_runs_no_code_of_a_package_and_tells_it_nothing(
    live: Open, plugins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_RUNTIME", "pw_secret")
    spied = tmp_path / "spied"
    folder = needing(plugins, "one", "[little]")
    code = f"import os\nopen({str(spied)!r}, 'a').write(repr(dict(os.environ)))\nVERSION = '1.0'\n"
    make_wheel(folder / "wheels", "little", code=code)
    async with live() as runtime:
        await until(lambda: len(runtime.made()) == 1 and not runtime.made()[0].startswith("."))
        assert not spied.exists()
        assert stat.S_IMODE(runtime.environments.stat().st_mode) == 0o700
        await runtime.says("one")
        assert "pw_secret" not in spied.read_text()
