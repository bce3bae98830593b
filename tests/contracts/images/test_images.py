"""What every backend that keeps images does with them, over the wire."""

import tarfile
from collections.abc import Callable

import docker
import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import Conflict, InvalidInput, NotFound, Reason, WrongState
from portway.rpc.ids import new_id
from portway.v1 import image_pb2
from tests.asking import ask
from tests.box import roots
from tests.box.box_process import DOCKER, BoxProcess
from tests.box.inside import dial, new_session
from tests.engines.dockerd import docker_engine

COMPLETED = image_pb2.IMAGE_VALIDATION_STAGE_COMPLETED


def a_name() -> str:
    return f"test/{new_id('img')}:1"


def in_engine(box: BoxProcess) -> set[str]:
    """What the engine has of this box; nothing where there is none."""
    if box.mode != DOCKER:
        return set()
    api = docker.APIClient(base_url=f"unix://{docker_engine().socket}", version="1.41", timeout=60)
    try:
        identity = (box.data / "installation").read_text().strip()
        found = api.images(all=True, filters={"label": f"portway.box.installation={identity}"})
        return {one["Id"] for one in found}
    finally:
        api.close()


PACKED: dict[str, Callable[[], bytes]] = {"tar": roots.root_tar, "oci": lambda: roots.oci_archive(roots.root_tar()),
          "docker save": lambda: roots.docker_archive(roots.root_tar())}  # fmt: skip


@pytest.mark.parametrize("kind", PACKED)
async def test_what_is_imported_is_the_root_of_sessions(channel: PortwayChannel, box: BoxProcess, kind: str) -> None:
    name, before = a_name(), in_engine(box)
    made = (await roots.import_image(channel, name, PACKED[kind]())).image
    assert made.digest.startswith("sha256:") and made.size > 1_000_000 and made.architecture
    session = await new_session(channel, image=name)
    said = await session.sh("cat /etc/issue; ls /usr/bin/python3 2>/dev/null; echo kept > /workspace/file; pwd")
    assert (said.code, said.stdout) == (0, "hand-made\n/workspace\n"), said
    assert (await session.argv("/usr/bin/python3", "-V")).code == 127
    denied = await session.attempt(
        "for each in /x /etc/issue /bin/sh; do (echo x > $each) 2>/dev/null && echo OPEN; done"
    )
    assert denied.stdout == ""
    assert (await session.argv("cat", "file")).stdout == "kept\n"
    with pytest.raises(WrongState) as refused:
        await ask(channel, image_pb2.RemoveImageRequest(name=name))
    assert refused.value.reason == Reason.IN_USE
    await session.delete()
    await ask(channel, image_pb2.RemoveImageRequest(name=name))
    assert in_engine(box) == before
    with pytest.raises(NotFound):
        await ask(channel, image_pb2.GetImageRequest(name=name))
    with pytest.raises(WrongState):
        await new_session(channel, image=name)


async def test_images_are_listed_for_those_who_may_use_them(channel: PortwayChannel, box: BoxProcess) -> None:
    own, shared = a_name(), a_name()
    await roots.import_image(channel, own, roots.root_tar(), workspace_id="default")
    await roots.import_image(channel, shared, roots.root_tar())
    with pytest.raises(Conflict):
        await roots.import_image(channel, shared, roots.root_tar())
    async with dial(box, "foreign") as foreign:
        listed = [image.name for image in (await ask(foreign, image_pb2.ListImagesRequest(page_size=200))).images]
        assert shared in listed and own not in listed
        with pytest.raises(WrongState):
            await new_session(foreign, image=own)
        session = await new_session(foreign, image=shared)
        assert (await session.sh("cat /etc/issue")).stdout == "hand-made\n"
        await session.delete()


async def test_what_a_backend_calls_an_image_is_no_name_of_it(channel: PortwayChannel, box: BoxProcess) -> None:
    await roots.import_image(channel, a_name(), roots.root_tar(), workspace_id="elsewhere")
    folder = box.data / ("images-docker" if box.mode == DOCKER else "images")
    kept = [path.name for path in folder.iterdir()]
    assert kept
    identity = (box.data / "installation").read_text().strip()
    for name in (*kept, *(f"portway.box/{identity}:{one.lstrip('!')}" for one in kept), "portway-test:bookworm"):
        with pytest.raises(WrongState, match="no image"):
            await new_session(channel, image=name)


async def test_what_means_harm_does_not_come_in(channel: PortwayChannel, box: BoxProcess) -> None:
    before = in_engine(box)
    with pytest.raises(InvalidInput, match=r"\.\."):
        await roots.import_image(channel, a_name(), roots.tar_of(roots.file("../out", b"x")))
    with pytest.raises(InvalidInput):
        await roots.import_image(channel, a_name(), roots.root_tar()[:-50_000])
    assert in_engine(box) == before
    entries: list[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]] = [
        *roots.root_entries(),
        roots.file("bin/rights", b"x", 0o6777),
        roots.device("dev/kmem"),
        roots.hard_link("bin/second", "bin/cat"),
        roots.link("etc/mtab", "/proc/mounts"),
    ]
    name = a_name()
    made = await roots.import_image(channel, name, roots.tar_of(*entries))
    assert made.notes
    session = await new_session(channel, image=name)
    said = await session.sh("ls -l /bin/rights; ls /dev/kmem 2>/dev/null; /bin/second /etc/mtab | head -1")
    assert said.stdout.startswith("-rwxr-xr-x") and "kmem" not in said.stdout and len(said.stdout.splitlines()) == 2
    await session.delete()


async def test_a_good_image_passes_every_check(channel: PortwayChannel) -> None:
    name = a_name()
    await roots.import_image(channel, name, roots.root_tar())
    states = await roots.validate(channel, name)
    assert "\n".join(f"{one.name}: {one.message}" for one in states[-1].checks if not one.passed) == ""
    assert sorted({state.stage for state in states}) == [1, 2, 3, 4, 5], states[-1]
    assert {"shell", "user", "workspace", "tmp", "read-only root", "isolation", "network", "terminal"} <= {
        check.name for check in states[-1].checks
    }


async def test_an_image_without_a_shell_fails_its_checks_and_still_runs_programs(channel: PortwayChannel) -> None:
    name = a_name()
    await roots.import_image(channel, name, roots.tar_of(*roots.root_entries(without=["bin/sh"])))
    last = (await roots.validate(channel, name))[-1]
    assert last.stage != COMPLETED and (last.checks[-1].name, last.checks[-1].passed) == ("shell", False)
    session = await new_session(channel, image=name)
    assert (await session.argv("cat", "/etc/hostname")).code == 0
    assert (await session.sh("echo x")).code == 127
    await session.delete()


async def test_a_shell_that_only_says_that_it_is_there_makes_no_command_a_success(channel: PortwayChannel) -> None:
    real = dict(roots.small_root())
    liar = b"#!/bin/real\n{ echo >&8; } 2>/dev/null\nexit 0\n"
    entries = [roots.file(path, data, 0o755) for path, data in real.items() if path != "bin/sh"]
    entries += [roots.file("bin/real", real["bin/sh"], 0o755), roots.file("bin/sh", liar, 0o755)]
    name = a_name()
    await roots.import_image(channel, name, roots.tar_of(*entries))
    session = await new_session(channel, image=name)
    for _ in range(3):
        assert (await session.argv("cat", "/not/there")).code == 1
        assert (await session.argv("cat", "/etc/hostname")).stdout == "sandbox\n"
        assert (await session.argv("/bin/real", "-c", "exit 7")).code == 7
    await session.delete()


async def test_the_variables_of_an_image_lie_under_those_of_the_caller(channel: PortwayChannel) -> None:
    said = ["PATH=/opt/bin:/bin", "TOOL=image", "MINE=image", "HOME=/root", "LANG=C", "odd.name=x", "_=x", "=x"]
    config = {"Env": [*said, "BAD"], "User": "0:0", "WorkingDir": "/etc", "Entrypoint": ["/bin/false"]}
    name = a_name()
    root = roots.tar_of(*roots.root_entries((*roots.PROGRAMS, "env")))
    made = await roots.import_image(channel, name, roots.docker_archive(root, config=config))
    assert any("variables" in note for note in made.notes)
    session = await new_session(channel, image=name, env={"MINE": "caller"})
    for how in (session.argv("env"), session.sh("exec env")):
        env = dict(line.split("=", 1) for line in (await how).stdout.splitlines())
        assert (env["PATH"], env["TOOL"], env["MINE"]) == ("/opt/bin:/bin", "image", "caller")
        assert (env["HOME"], env["LANG"]) == ("/workspace", "C")
        assert "odd.name" not in env
    assert (await session.sh("pwd; id -u")).stdout.splitlines()[0] == "/workspace"
    assert (await session.sh("id -u")).stdout != "0\n"
    assert (await session.argv("env", env={"TOOL": "command"})).stdout.count("TOOL=command") == 1
    await session.delete()


async def test_images_and_their_variables_are_there_again_after_a_restart(
    channel: PortwayChannel, box: BoxProcess
) -> None:
    name, root = a_name(), roots.tar_of(*roots.root_entries(), roots.file("etc/issue", b"hand-made\n"))
    made = (await roots.import_image(channel, name, roots.docker_archive(root, config={"Env": ["TOOL=x"]}))).image
    await new_session(channel, image=name, session_id="stays", persistent=True)
    box.kill()
    folder = box.data / ("images-docker" if box.mode == DOCKER else "images")
    # As a crash amid an import leaves it.
    (folder / ".!0123456789abcdef01234567").mkdir()
    box.start()
    async with dial(box) as again:
        assert not list(folder.glob(".*"))
        found = (await ask(again, image_pb2.GetImageRequest(name=name))).image
        assert (found.digest, found.size) == (made.digest, made.size)
        session = await new_session(again, image=name, session_id="stays", persistent=True)
        assert (await session.sh("cat /etc/issue; echo $TOOL")).stdout == "hand-made\nx\n"
        await session.delete()
