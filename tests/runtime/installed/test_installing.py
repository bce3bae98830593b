"""Plugins are installed, upgraded, rolled back and removed over the wire."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.errors import (
    Conflict,
    InvalidInput,
    LimitExceeded,
    NotPermitted,
    Reason,
    WrongState,
)
from portway.rpc.identity import Role
from portway.rpc.status import errors_by_meaning
from portway.runtime.config import RuntimeConfig
from portway.runtime.installed.config import InstallingConfig
from portway.v1 import runtime_pb2 as pb
from portway.v1 import runtime_pb2_grpc
from tests.runtime.conftest import LiveRuntime
from tests.runtime.folders import COMPONENT
from tests.runtime.installed.packs import (
    RUNNER,
    digest_of,
    frames,
    install,
    left_behind,
    packed,
    plugin,
    says,
    send,
    zip_of,
)

START = pb.InstallPluginStart


async def test_a_plugin_is_installed_and_runs(runtime: LiveRuntime, config: RuntimeConfig, tmp_path: Path) -> None:
    raw = packed(tmp_path, "1.0.0")
    answer = await install(runtime.operator, raw)
    assert (answer.plugin.plugin_id, answer.plugin.version, answer.replaced_version) == ("test/one", "1.0.0", "")
    assert answer.plugin.source == pb.PLUGIN_SOURCE_INSTALLED
    (version,) = answer.plugin.versions
    assert (version.digest, version.state) == (digest_of(raw), pb.PLUGIN_VERSION_STATE_CURRENT)
    assert version.signature_state == pb.PLUGIN_SIGNATURE_STATE_NONE
    assert (version.file_count, version.byte_count > 0) == (3, True)
    assert await says(runtime) == "1.0.0"
    assert left_behind(config.data) == [f"versions/test.one/1.0.0-{digest_of(raw)[:16]}"]


async def test_a_zip_of_the_folder_itself_is_taken_too(runtime: LiveRuntime) -> None:
    files = {
        "mine/manifest.yaml": "author: test\nname: one\nversion: 1.0.0\n",
        "mine/components/default.yaml": COMPONENT.format(module="one"),
        "mine/one.py": "from portway.runtime.sdk import AgentRunner as Runner\n",
    }
    answer = await install(runtime.operator, zip_of(files))
    assert answer.plugin.version == "1.0.0"


async def test_an_upgrade_takes_new_runs_and_is_told_to_watchers(runtime: LiveRuntime, tmp_path: Path) -> None:
    await install(runtime.operator, packed(tmp_path, "1.0.0"))
    assert await says(runtime) == "1.0.0"
    before = await plugin(runtime.stub)
    watch: Any = runtime.stub.WatchRunners(pb.WatchRunnersRequest())
    assert (await watch.read()).HasField("snapshot")
    answer = await install(runtime.operator, packed(tmp_path, "1.1.0"))
    assert answer.replaced_version == "1.0.0"
    assert answer.plugin.generation > before.generation
    assert await says(runtime) == "1.1.0"
    async with asyncio.timeout(30):
        while True:
            event = await watch.read()
            if event.HasField("changed"):
                assert (event.changed.id, event.changed.plugin_version) == (RUNNER, "1.1.0")
                break
    watch.cancel()


@pytest.mark.parametrize("whole", [True, False])
async def test_the_same_bytes_again_change_nothing(runtime: LiveRuntime, tmp_path: Path, whole: bool) -> None:
    raw = packed(tmp_path, "1.0.0")
    first = await install(runtime.operator, raw, whole=whole)
    again = await install(runtime.operator, raw, whole=whole)
    assert again.unchanged
    assert again.plugin.record_generation == first.plugin.record_generation


async def test_a_request_is_done_once(runtime: LiveRuntime, tmp_path: Path) -> None:
    one, two = packed(tmp_path, "1.0.0"), packed(tmp_path, "2.0.0")
    assert not (await install(runtime.operator, one, START(request_id="r1"))).unchanged
    await install(runtime.operator, two, START(request_id="r2"))
    assert (await install(runtime.operator, one, START(request_id="r1"))).unchanged, "it was done, whatever came later"
    assert await says(runtime) == "2.0.0"
    with pytest.raises(Conflict) as caught:
        await install(runtime.operator, two, START(request_id="r1"))
    assert caught.value.reason == Reason.SAME_KEY_OTHER_BODY
    with pytest.raises(InvalidInput):
        await install(runtime.operator, two, START(request_id="r3"), whole=False)


async def test_a_version_with_other_bytes_and_an_older_one_must_be_said(runtime: LiveRuntime, tmp_path: Path) -> None:
    await install(runtime.operator, packed(tmp_path, "1.10.0"))
    other = packed(tmp_path / "other", "1.10.0", says="forced")
    with pytest.raises(Conflict) as conflict:
        await install(runtime.operator, other)
    assert conflict.value.reason == Reason.ALREADY_EXISTS
    older = packed(tmp_path, "1.9.0")
    with pytest.raises(WrongState) as refused:
        await install(runtime.operator, older)
    assert refused.value.reason == Reason.DOWNGRADE
    assert await says(runtime) == "1.10.0"
    assert (await install(runtime.operator, other, START(force=True))).replaced_version == "1.10.0"
    assert await says(runtime) == "forced"
    await install(runtime.operator, older, START(allow_downgrade=True))
    assert await says(runtime) == "1.9.0"


async def test_so_many_versions_are_kept(runtime: LiveRuntime, config: RuntimeConfig, tmp_path: Path) -> None:
    for number in range(7):
        await install(runtime.operator, packed(tmp_path, f"1.{number}"))
    found = await plugin(runtime.stub)
    assert [one.version for one in found.versions if one.state == pb.PLUGIN_VERSION_STATE_CURRENT] == ["1.6"]
    assert sorted(found.kept_versions) == ["1.3", "1.4", "1.5"]
    # The processes of those before have ended by the next installation, which removes their folders.
    await install(runtime.operator, packed(tmp_path, "1.7"))
    assert len(left_behind(config.data)) <= 6


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"code": "import nothing_like_this\n"}, "nothing_like_this"),
        ({"code": "class Runner: pass\n"}, "is no AgentRunner"),
    ],
)
async def test_an_upgrade_that_does_not_start_leaves_the_old_one_running(
    runtime: LiveRuntime, config: RuntimeConfig, tmp_path: Path, options: dict[str, str], part: str
) -> None:
    await install(runtime.operator, packed(tmp_path, "1.0.0"))
    assert await says(runtime) == "1.0.0"
    before = await plugin(runtime.stub)
    with pytest.raises(WrongState) as caught:
        await install(runtime.operator, packed(tmp_path, "2.0.0", **options))
    assert caught.value.reason == Reason.PLUGIN_DOES_NOT_START
    assert part in caught.value.message
    assert "the one from before goes on" in caught.value.message
    assert await says(runtime) == "1.0.0"
    after = await plugin(runtime.stub)
    assert (after.pid, after.record_generation) == (before.pid, before.record_generation)
    assert len(left_behind(config.data)) == 1


async def test_a_manifest_with_mistakes_is_refused_by_file_and_field(
    runtime: LiveRuntime, config: RuntimeConfig, tmp_path: Path
) -> None:
    component = COMPONENT.format(module="one") + "permissions: {modles: [invoke]}\n"
    with pytest.raises(InvalidInput) as caught:
        await install(runtime.operator, packed(tmp_path, "1.0.0", component=component))
    violation = caught.value.fields[0]
    assert violation.field == "components/default.yaml: permissions.modles"
    assert 'did you mean "models"?' in violation.description
    with pytest.raises(InvalidInput) as torn:
        await install(
            runtime.operator, zip_of({"manifest.yaml": "author: test\nname: [one\n", "components/x.yaml": ""})
        )
    assert "line 3" in torn.value.message
    assert left_behind(config.data) == []


async def test_what_came_with_portway_or_lies_in_a_folder_is_not_replaced_nor_removed(runtime: LiveRuntime) -> None:
    for plugin_id, reason in (("portway/exec", Reason.PLUGIN_BUNDLED), ("test/neighbour", Reason.MANAGED_BY_CONFIG)):
        author, name = plugin_id.split("/")
        files = {
            "manifest.yaml": f"author: {author}\nname: {name}\nversion: 9.0\n",
            "components/default.yaml": COMPONENT.format(module="one"),
            "one.py": "from portway.runtime.sdk import AgentRunner as Runner\n",
        }
        raw = zip_of(files)
        with pytest.raises(WrongState) as caught:
            await install(runtime.operator, raw)
        assert caught.value.reason == reason
        with pytest.raises(WrongState) as caught, errors_by_meaning():
            await runtime.operator.RemovePlugin(pb.RemovePluginRequest(plugin_id=plugin_id))
        assert caught.value.reason == reason


async def test_frames_that_do_not_fit_are_refused(runtime: LiveRuntime, config: RuntimeConfig, tmp_path: Path) -> None:
    raw = packed(tmp_path, "1.0.0")
    start = pb.InstallPluginRequest(start=START())
    chunk = pb.InstallPluginRequest(chunk=pb.PluginChunk(offset=7, data=b"x"))
    data = pb.InstallPluginRequest(data=raw)
    refused = [
        ([data], Reason.UNEXPECTED_FRAME),
        ([start, start], Reason.UNEXPECTED_FRAME),
        ([start, chunk], Reason.INVALID_FIELD),
        ([start], Reason.INVALID_FIELD),
        ([pb.InstallPluginRequest(start=START(size=len(raw) + 1)), data], Reason.INVALID_FIELD),
        ([pb.InstallPluginRequest(start=START(size=len(raw) - 1)), data], Reason.INVALID_FIELD),
        ([pb.InstallPluginRequest(start=START(digest="0" * 64)), data], Reason.INVALID_FIELD),
        ([pb.InstallPluginRequest(start=START(digest="nonsense")), data], Reason.INVALID_FIELD),
        ([start, pb.InstallPluginRequest(data=bytes(1024 * 1024 + 1))], Reason.INVALID_FIELD),
    ]
    for several, reason in refused:
        with pytest.raises(InvalidInput) as caught:
            await send(runtime.operator, iter(several))
        assert caught.value.reason == reason, several[0].WhichOneof("kind")
    assert left_behind(config.data) == []
    assert (await send(runtime.operator, iter([start, data]))).plugin.version == "1.0.0"


async def test_a_cancelled_upload_leaves_nothing(runtime: LiveRuntime, config: RuntimeConfig, tmp_path: Path) -> None:
    call: Any = runtime.operator.InstallPlugin()
    await call.write(pb.InstallPluginRequest(start=START()))
    await call.write(pb.InstallPluginRequest(data=b"PK" * 1000))
    incoming = config.data / "installed" / "incoming"
    async with asyncio.timeout(30):
        while not list(incoming.iterdir()):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)
        call.cancel()
        while list(incoming.iterdir()):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_only_operators_change_plugins(runtime: LiveRuntime, tmp_path: Path) -> None:
    raw = packed(tmp_path, "1.0.0")
    for role in (Role.RUNTIME, Role.VIEWER):
        async with open_channel(runtime.address, token=runtime.tokens[role]) as channel:
            stub = runtime_pb2_grpc.RuntimeServiceStub(channel)
            with pytest.raises(NotPermitted):
                await install(stub, raw)
            for ask in (
                stub.DisablePlugin(pb.DisablePluginRequest(plugin_id="portway/exec")),
                stub.EnablePlugin(pb.EnablePluginRequest(plugin_id="portway/exec")),
                stub.RollbackPlugin(pb.RollbackPluginRequest(plugin_id="portway/exec")),
                stub.RemovePlugin(pb.RemovePluginRequest(plugin_id="portway/exec")),
                stub.GrantPlugin(pb.GrantPluginRequest(plugin_id="portway/exec")),
            ):
                with pytest.raises(NotPermitted), errors_by_meaning():
                    await ask


async def test_twenty_installations_at_once(runtime: LiveRuntime, config: RuntimeConfig, tmp_path: Path) -> None:
    packs = [packed(tmp_path, "1.0.0", name=f"p{number}") for number in range(10)]
    versions = [packed(tmp_path, f"1.{number}") for number in range(10)]
    each = [install(runtime.operator, raw, START(allow_downgrade=True)) for raw in packs + versions]
    answers = await asyncio.gather(*each)
    assert len({answer.plugin.plugin_id for answer in answers}) == 11
    listed = await runtime.stub.ListPlugins(pb.ListPluginsRequest(page_size=200))
    told = {one.plugin_id: one for one in listed.plugins}
    assert {f"test/p{number}" for number in range(10)} <= told.keys()
    current = [one for one in told["test/one"].versions if one.state == pb.PLUGIN_VERSION_STATE_CURRENT]
    assert [one.version for one in current] == [told["test/one"].version] == [await says(runtime)]
    assert len(told["test/one"].versions) == 4
    assert list((config.data / "installed" / "incoming").iterdir()) == []


class TestCrowded:
    @pytest.fixture
    def config(self, config: RuntimeConfig) -> RuntimeConfig:
        return replace(config, installing=InstallingConfig(at_once=1, waiting=1))

    async def test_more_than_may_wait_are_refused_with_a_time(self, runtime: LiveRuntime, tmp_path: Path) -> None:
        calls: list[Any] = [runtime.operator.InstallPlugin() for _ in range(2)]
        raw = packed(tmp_path, "1.0.0")
        try:
            for call in calls:
                await call.write(pb.InstallPluginRequest(start=START()))
            async with asyncio.timeout(30):
                while True:
                    try:
                        # Answered at once where the two others are there already.
                        await send(runtime.operator, frames(raw, START()))
                    except LimitExceeded as error:
                        assert error.reason == Reason.OVERLOADED
                        assert error.retry_after
                        break
        finally:
            for call in calls:
                call.cancel()


class TestLowDisk:
    @pytest.fixture
    def config(self, config: RuntimeConfig) -> RuntimeConfig:
        return replace(config, installing=InstallingConfig(reserve_mb=1_000_000_000))

    async def test_a_disk_that_is_low_refuses_first(self, runtime: LiveRuntime, config: RuntimeConfig) -> None:
        with pytest.raises(LimitExceeded) as caught:
            await install(runtime.operator, b"never looked at")
        assert caught.value.reason == Reason.DISK_FULL
        assert left_behind(config.data) == []


class TestReplacing:
    @pytest.fixture
    def config(self, config: RuntimeConfig) -> RuntimeConfig:
        return replace(config, installing=InstallingConfig(replace_bundled=True))

    async def test_the_operator_may_let_a_builtin_be_replaced(self, runtime: LiveRuntime) -> None:
        files = {
            "manifest.yaml": "author: portway\nname: exec\nversion: 99\n",
            "components/default.yaml": COMPONENT.format(module="one"),
            "one.py": "from portway.runtime.sdk import AgentRunner as Runner\n",
        }
        answer = await install(runtime.operator, zip_of(files))
        assert (answer.plugin.version, answer.plugin.source) == ("99", pb.PLUGIN_SOURCE_INSTALLED)
        await runtime.operator.RemovePlugin(pb.RemovePluginRequest(plugin_id="portway/exec"))
        back = await plugin(runtime.stub, "portway/exec")
        assert (back.source, back.version != "99") == (pb.PLUGIN_SOURCE_BUNDLED, True)
