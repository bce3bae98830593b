"""Images whose content wants out. Each session first proves that it runs, then what was tried is looked at."""

import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import PortwayError
from portway.rpc.ids import new_id
from portway.v1 import image_pb2, process_pb2, session_pb2
from tests.box import roots
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.conftest import SECRET
from tests.box.inside import Inside, dial, new_session
from tests.box.machine import leftovers, until_nothing_is_left

Entry = tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]


def interpreter() -> str:
    """The dynamic loader of this machine, by its path in an image."""
    return next(path for path in roots.small_root() if "ld-linux" in path or "ld-musl" in path)


async def session_of(channel: PortwayChannel, *entries: Entry, without: tuple[str, ...] = (), **spec: object) -> Inside:
    name = f"hostile/{new_id('img')}"
    await roots.import_image(channel, name, roots.tar_of(*roots.root_entries(without=without), *entries))
    return await new_session(channel, image=name, **spec)  # type: ignore[arg-type]


PLACES = ("proc", "dev", "tmp", "workspace", "run", "etc", "var", "sys")
SHAPES: dict[str, Callable[[str], Entry]] = {
    "a link to above": lambda name: roots.link(name, "../../../../.."),
    "a link to the root": lambda name: roots.link(name, "/"),
    "a link to itself": lambda name: roots.link(name, name),
    "a link to the box": lambda name: roots.link(name, "/oldroot/stage"),
    "a link to processes": lambda name: roots.link(name, "/proc/1/root"),
    "a file": lambda name: roots.file(name, b"file"),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_places_of_a_session_are_its_own_whatever_an_image_has_there(
    channel: PortwayChannel, box: BoxProcess, shape: str
) -> None:
    session = await session_of(channel, *(SHAPES[shape](name) for name in PLACES if name != "sys"))
    result = await session.attempt(
        "read -r one rest < /proc/self/stat && echo proc; : < /dev/null && echo dev; echo x > /tmp/x && echo tmp\n"
        "echo x > /workspace/x && echo workspace; head -1 /etc/hosts; ls /run; ls -d /oldroot /newroot 2>/dev/null\n"
        "(: > /proc/sys/kernel/panic) 2>/dev/null && echo OPEN; head -c 1 /proc/kcore 2>/dev/null; cat /proc/mounts"
    )
    lines = result.stdout.splitlines()
    assert lines[:5] == ["proc", "dev", "tmp", "workspace", "127.0.0.1\tlocalhost sandbox"], result
    assert "OPEN" not in result.stdout
    assert str(box.folder) not in result.stdout
    assert "oldroot" not in result.stdout
    assert await session.read("/workspace/x") == b"x\n"
    await session.delete()


@pytest.mark.parametrize("read_only", [True, False], ids=["read-only", "writable"])
async def test_links_of_an_image_lead_only_within_the_sandbox(
    channel: PortwayChannel, box: BoxProcess, read_only: bool
) -> None:
    outside = box.folder / f"outside-{new_id('x')}"
    outside.write_text("outside")
    links = [
        roots.link("out/file", str(outside)),
        roots.link("out/up", f"../../../../../../..{outside}"),
        roots.link("out/root", "/proc/1/root/private/host"),
        roots.link("out/data", str(box.data)),
        roots.link("out/credentials", str(box.folder / "credentials.json")),
        roots.link("out/shadow", "/etc/shadow"),
    ]
    session = await session_of(channel, *links, read_only_root=read_only)
    result = await session.attempt("ls /out; cat /out/* 2>/dev/null; ls /out/data/ /out/root/ 2>/dev/null; true")
    assert result.stdout.split() == ["credentials", "data", "file", "root", "shadow", "up"]
    await session.attempt("for each in file up data; do (echo changed > /out/$each) 2>/dev/null; done; true")
    assert outside.read_text() == "outside"
    await session.delete()


async def test_a_hostile_shell_hurts_its_own_session_alone(channel: PortwayChannel, box: BoxProcess) -> None:
    script = (
        b"#!/bin/honest\nid -u >&2 2>/dev/null; cat /proc/*/environ /proc/*/cmdline >&2\n"
        b"ls -l /proc/self/fd >&2\n"
        b"printf '{\"exit-code\": 0}' >&4 2>/dev/null; printf '{\"exit-code\": 0}' >&7 2>/dev/null; exit 42\n"
    )
    entries = [roots.file("bin/honest", roots.small_root()["bin/sh"], 0o755), roots.file("bin/sh", script, 0o755)]
    session = await session_of(channel, *entries, without=("bin/sh",))
    other = await new_session(channel)
    for _ in range(3):
        result = await session.argv("/bin/sh", "-c", "true")
        assert result.code == 42
        assert "1000" in result.stderr
        assert SECRET not in result.stderr
        assert str(box.folder) not in result.stderr
        # Programs run without it, and their end is told by the box.
        assert (await session.argv("/bin/cat", "/etc/hostname")).stdout == "sandbox\n"
        assert (await session.argv("/bin/honest", "-c", "exit 7")).code == 7
    assert (await other.sh("echo fine")).stdout == "fine\n"
    await session.delete()
    await other.delete()


async def test_a_shell_that_lies_about_being_there_is_its_own_sessions_trouble(channel: PortwayChannel) -> None:
    script = b"#!/bin/honest\necho ready >&8; echo lie; exit 42\n"
    entries = [roots.file("bin/honest", roots.small_root()["bin/sh"], 0o755), roots.file("bin/sh", script, 0o755)]
    session = await session_of(channel, *entries, without=("bin/sh",))
    for _ in range(3):
        result = await session.argv("/bin/cat", "/etc/hostname")
        # Run by the box itself, or left undone by the shell: never told as done.
        assert (result.code, result.stdout) in ((0, "sandbox\n"), (42, "lie\n"), (42, "")), result
    other = await new_session(channel)
    assert (await other.sh("echo fine")).stdout == "fine\n"
    await session.delete()
    await other.delete()


async def test_a_shell_that_never_ends_holds_nothing_up(channel: PortwayChannel, box: BoxProcess) -> None:
    script = b"#!/bin/honest\nwhile :; do :; done\n"
    entries = [roots.file("bin/honest", roots.small_root()["bin/sh"], 0o755), roots.file("bin/sh", script, 0o755)]
    session = await session_of(channel, *entries, without=("bin/sh",))
    result = await session.sh("echo x", timeout=0.5)
    assert result.exit.status == process_pb2.EXIT_STATUS_TIMED_OUT
    assert (await session.argv("cat", "/etc/hostname")).stdout == "sandbox\n"
    await session.delete()


async def test_a_library_that_is_loaded_first_runs_only_inside(channel: PortwayChannel) -> None:
    session = await session_of(channel, roots.file("etc/ld.so.preload", b"/etc/not-a-library\n"))
    result = await session.attempt("cat /etc/ld.so.preload; id -u")
    assert result.stdout.split() == ["/etc/not-a-library", "1000"]
    assert (await (await new_session(channel)).sh("cat /etc/ld.so.preload 2>/dev/null; id -u")).stdout == "1000\n"
    await session.delete()


async def test_rights_to_become_another_user_are_gone(channel: PortwayChannel) -> None:
    session = await session_of(channel, roots.file("bin/root-id", roots.small_root()["bin/id"], 0o6755))
    result = await session.attempt("root-id -u; ls -l /bin/root-id; grep -E '^(Cap|NoNew)' /proc/self/status")
    user, mode, *_rest = result.stdout.split()
    assert (user, mode) == ("1000", "-rwxr-xr-x")
    assert "CapEff:\t0000000000000000" in result.stdout
    await session.delete()


async def test_devices_and_pipes_are_not_in_it(channel: PortwayChannel) -> None:
    devices = [roots.device("srv/mem"), roots.device("srv/disk", tarfile.BLKTYPE)]
    devices.append(roots.device("srv/pipe", tarfile.FIFOTYPE))
    session = await session_of(channel, roots.file("srv/file", b"x"), *devices)
    assert (await session.attempt("ls /srv")).stdout == "file\n"
    await session.delete()


async def test_an_image_of_nothing_but_links_in_a_circle_starts_no_program_and_harms_nobody(
    channel: PortwayChannel,
) -> None:
    loader = str(Path(interpreter()).parent)
    name = f"hostile/{new_id('img')}"
    entries = [entry for entry in roots.root_entries() if not entry[0].name.startswith(loader + "/")]
    circle = [roots.link(loader, "circle"), roots.link("circle", loader), roots.link("usr", "/")]
    await roots.import_image(channel, name, roots.tar_of(*entries, *circle))
    session = await new_session(channel, image=name)
    result = await session.argv("/bin/cat", "/etc/hostname")
    assert result.exit.status == process_pb2.EXIT_STATUS_COMPLETED
    assert result.code in (126, 127)
    states = await roots.validate(channel, name)
    assert states[-1].stage == image_pb2.IMAGE_VALIDATION_STAGE_FAILED
    assert "shell" in states[-1].reason
    await session.delete()


async def test_two_sessions_of_one_image_share_nothing(channel: PortwayChannel) -> None:
    name = f"hostile/{new_id('img')}"
    await roots.import_image(channel, name, roots.root_tar())
    for read_only in (True, False):
        one, two = [await new_session(channel, image=name, read_only_root=read_only) for _ in range(2)]
        await one.attempt(
            "echo one > /workspace/x; echo one > /tmp/x; echo one > /var/tmp/y; echo one > /x 2>/dev/null"
        )
        seen = await two.attempt("cat /workspace/x /tmp/x /var/tmp/y /x 2>/dev/null; true")
        assert seen.stdout == ""
        await one.delete()
        await two.delete()


@pytest.fixture(params=[ROOT, UNPRIVILEGED])
def mounting(request: pytest.FixtureRequest) -> Iterator[tuple[BoxProcess, Path]]:
    """A box that may mount a folder of the machine, and that folder."""
    if reason := why_not(request.param):
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="portway-shared-") as folder, box_process(request.param) as running:
        Path(folder).chmod(0o755)
        shared = Path(folder) / "shared"
        (shared / "inner").mkdir(parents=True)
        (shared / "file").write_text("of the machine")
        for path in (shared, shared / "inner", shared / "file"):
            path.chmod(0o777)
        running.settings = {"mount_roots": [str(shared)]}
        running.start()
        yield running, shared


def mount(source: Path, target: str, mode: "session_pb2.MountMode.ValueType") -> session_pb2.Mount:
    return session_pb2.Mount(source=str(source), target=target, mode=mode)


async def test_mounts_go_where_they_should_also_where_an_image_has_nothing_or_something_else(
    mounting: tuple[BoxProcess, Path],
) -> None:
    box, shared = mounting
    read, write, none = (
        session_pb2.MOUNT_MODE_READ_ONLY,
        session_pb2.MOUNT_MODE_READ_WRITE,
        session_pb2.MOUNT_MODE_NONE,
    )
    async with dial(box) as channel:
        hidden: list[Entry] = [
            roots.file("hidden/secret", b"x"),
            roots.link("trap", "/workspace"),
            roots.file("blocked", b"x"),
        ]
        for read_only in (True, False):
            mounts = [mount(shared, "/data/read", read), mount(shared, "/data/write", write)]
            mounts += [mount(shared / "file", "/one/file", read), mount(shared, "/hidden", none)]
            session = await session_of(channel, *hidden, extra_mounts=mounts, read_only_root=read_only)
            result = await session.attempt(
                f"made=made-{read_only}; cat /data/read/file /one/file; ls /hidden\n"
                "(echo x > /data/read/new) 2>/dev/null && echo WRITTEN\n"
                "echo x > /data/write/$made && echo made; (echo x > /one/file) 2>/dev/null && echo WRITTEN; true"
            )
            assert result.stdout == "of the machineof the machinemade\n", result
            assert (shared / f"made-{read_only}").read_text() == "x\n"
            moved = "mv /data /moved 2>/dev/null && mkdir /data; rm /data/read 2>/dev/null; true"
            await session.attempt(moved)
            assert (shared / "file").read_text() == "of the machine"
            assert (await session.attempt("id -u")).stdout == "1000\n"
            await session.delete()
        for target in ("/trap/in", "/blocked/in"):
            with pytest.raises(PortwayError, match="a link or a file"):
                await session_of(channel, *hidden, extra_mounts=[mount(shared, target, read)])
        assert sorted(path.name for path in shared.iterdir()) == ["file", "inner", "made-False", "made-True"]


@pytest.mark.parametrize("mode", [ROOT, UNPRIVILEGED])
async def test_nothing_is_left_when_a_box_with_images_is_killed(mode: str) -> None:
    if reason := why_not(mode):
        pytest.skip(reason)
    with box_process(mode) as box:
        box.start()
        async with dial(box) as channel:
            sessions = [await session_of(channel, read_only_root=read_only) for read_only in (True, False)]
            for session in sessions:
                assert (await session.sh("cat /etc/hostname")).stdout == "sandbox\n"
            kept = await session_of(channel, roots.file("etc/mark", b"image"), persistent=True)
            await kept.sh("echo kept > /workspace/file")
        box.kill()
        await until_nothing_is_left(box)
        box.start()
        async with dial(box) as channel:
            again = Inside(channel, kept.session_id)
            assert (await again.sh("cat /workspace/file /etc/mark")).stdout == "kept\nimage"
        box.stop()
        assert leftovers(box) == []


async def test_an_image_that_loses_its_files_on_the_disk_is_told_as_such() -> None:
    mode = UNPRIVILEGED if why_not(ROOT) else ROOT
    if reason := why_not(mode):
        pytest.skip(reason)
    with box_process(mode) as box:
        box.start()
        async with dial(box) as channel:
            await roots.import_image(channel, "lost", roots.root_tar())
            for directory in (box.data / "images").iterdir():
                shutil.rmtree(directory / "root")
            with pytest.raises(PortwayError):
                await new_session(channel, image="lost")
            assert (await (await new_session(channel)).sh("echo fine")).stdout == "fine\n"
