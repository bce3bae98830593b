"""Directories of the machine in a session: only what the operator allows, whatever is asked for or swapped."""

import asyncio
import contextlib
import ctypes
import os
import socket
import stat
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import InvalidInput, NotPermitted, PortwayError
from portway.v1 import session_pb2
from tests.box.box_process import ROOT, UNPRIVILEGED, BoxProcess, box_process, why_not
from tests.box.inside import Inside, dial, new_session

SECRET = "what lies outside of the allowed roots"
READ_ONLY, READ_WRITE = session_pb2.MOUNT_MODE_READ_ONLY, session_pb2.MOUNT_MODE_READ_WRITE
_EXCHANGE = 2


@dataclass(frozen=True, slots=True)
class Mounting:
    """A box whose operator allows the folder `shared` and, once more, a folder in it."""

    box: BoxProcess
    folder: Path

    @property
    def shared(self) -> Path:
        return self.folder / "shared"


@pytest.fixture(scope="module", params=[ROOT, UNPRIVILEGED])
def mounting(request: pytest.FixtureRequest) -> Iterator[Mounting]:
    if reason := why_not(request.param):
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="portway-mounts-") as name, box_process(request.param) as box:
        folder = Path(name)
        folder.chmod(0o755)
        _fill(folder, box.data)
        box.settings = {"mount_roots": [str(folder / "shared"), str(folder / "shared/inner")]}
        box.start()
        yield Mounting(box, folder)


def _fill(folder: Path, data: Path) -> None:
    shared = folder / "shared"
    for directory in ("shared/inner/deep", "shared/.ssh", "shared/real", "shared/scratch", "outside"):
        (folder / directory).mkdir(parents=True)
    for file in (
        "shared/file.txt",
        "shared/inner/deep/file.txt",
        "shared/.ssh/id",
        "shared/real/file.txt",
        "shared/scratch/file.txt",
    ):
        (folder / file).write_text("shared\n")
    (folder / "outside/file.txt").write_text(SECRET)
    os.mkfifo(shared / "pipe")
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(shared / "docker.sock"))
    for name, target in _LINKS.items():
        (shared / name).symlink_to(target.format(folder=folder, data=data))
    with contextlib.suppress(PermissionError):
        os.mknod(shared / "device", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    for path in (shared, *shared.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o777 if path.is_dir() else 0o666)


_LINKS = {
    "to-etc": "/etc",
    "to-root": "/",
    "to-outside": "{folder}/outside",
    "up": "../outside",
    "to-data": "{data}",
    "to-process": "/proc/self/root/etc",
    "loop": "loop",
    "to-socket": "docker.sock",
}


@pytest.fixture
async def mounted(mounting: Mounting) -> AsyncIterator[PortwayChannel]:
    async with dial(mounting.box) as channel:
        yield channel


def mount(
    source: object, target: str = "/data", mode: session_pb2.MountMode.ValueType = READ_ONLY
) -> session_pb2.Mount:
    return session_pb2.Mount(source=str(source), target=target, mode=mode)


async def fields_refused(channel: PortwayChannel, **spec: Any) -> list[str]:
    """The fields for which a session is refused; none where it was made."""
    try:
        session = await new_session(channel, **spec)
    except InvalidInput as refused:
        return [one.field for one in refused.fields]
    await session.delete()
    return []


async def test_only_what_lies_below_an_allowed_root_is_shown(mounted: PortwayChannel, mounting: Mounting) -> None:
    shared, folder, box = mounting.shared, mounting.folder, mounting.box.folder
    good = (
        shared,
        f"{shared}/",
        f"{shared}/./inner/../inner",
        f"/{shared}",
        f"/proc/self/root{shared}",
        shared / "real",
    )
    for source in good:
        session = await new_session(mounted, extra_mounts=[mount(source)])
        assert (await session.attempt("ls -A /data | wc -l")).stdout.strip() != "0", source
        await session.delete()
    bad: tuple[object, ...] = (
        f"{shared}/..", f"{shared}/../outside", f"{shared}/inner/../../outside", f"{shared}/real/../../../../../etc",
        *(shared / name for name in _LINKS), shared / "to-root/etc", shared / "to-data/sessions", shared / "pipe",
        shared / "docker.sock", shared / "device", shared / ".ssh", shared / ".ssh/id", shared / "missing",
        shared / "file.txt/below", folder, box, box / "data", box / "credentials.json", folder / "sharedish",
        "/proc/self/root/etc", "/proc/1/root", "/proc/self/cwd", "/proc/self/fd/0", "/etc", "/", "//", "/root", "/home",
        "/usr", "/var/run/docker.sock", "/run/docker.sock", "/dev/null", "/dev", "/sys", "/proc", "/tmp", "shared", ".",
        "", "~", f"{shared}\n", f"{shared} ", "/\u2215etc", "/" + "x" * 4000, "/" + "x/" * 2000,
    )  # fmt: skip
    for wrong in map(str, bad):
        assert await fields_refused(mounted, extra_mounts=[mount(wrong)]) == ["spec.extra_mounts[0].source"], wrong
        if wrong:
            assert await fields_refused(mounted, workspace_source=wrong) == ["spec.workspace_source"], wrong
    assert await fields_refused(mounted, workspace_source=str(shared / "file.txt")) == ["spec.workspace_source"]


async def test_a_mount_takes_no_place_of_the_sandbox_or_of_another(mounted: PortwayChannel, mounting: Mounting) -> None:
    shared = mounting.shared
    bad = [
        "/workspace", "/workspace/x", "/workspace/.skills", "/workspace/../etc", "/workspace/./x", "/workspace//x",
        "/etc", "/etc/passwd", "/usr/lib/x", "/usr/local/x", "/proc/x", "/proc/sys", "/dev/x", "/dev/shm", "/tmp",
        "/tmp/x", "/bin", "/bin/sh", "/lib64/x", "/lib/x", "/run/x", "/var/x", "/sys/x", "/", "//x", "/x/", "/x/.",
        "/x/..", "/..", "/../x", "x", "./x", "", "/x//y", "/" + "n" * 256, "/" + "n/" * 2030 + "n",
    ]  # fmt: skip
    for target in bad:
        assert await fields_refused(mounted, extra_mounts=[mount(shared, target)]) != [], target
    for first, second in (("/a", "/a"), ("/a", "/a/b"), ("/a/b/c", "/a/b"), ("/a/b", "/a")):
        assert await fields_refused(mounted, extra_mounts=[mount(shared, first), mount(shared, second)]) != []


async def test_odd_places_hold_what_was_asked_for(mounted: PortwayChannel, mounting: Mounting) -> None:
    shared = mounting.shared
    targets = [
        "/new\nline", "/tab\there", "/spa ce", "/日本/語", "/-rf", "/--bind", "/\\040", "/'quote\"", "/a/b/c/d/e/f/g",
        "/.hidden", "/%s", "/$HOME", "/`id`", "/*", "/oldroot", "/newroot", "/stage", "/private", "/home/user", "/root",
        "/" + "n" * 255, "/" + "/".join(["d" * 100] * 30),
    ]  # fmt: skip
    many = [mount(shared, target) for target in targets]
    many += [mount(shared / "real", f"/more/{number}") for number in range(32 - len(many))]
    for root in (True, False):
        session = await new_session(mounted, extra_mounts=many, read_only_root=root)
        wanted = [one.target for one in many]
        result = await session.argv("/bin/sh", "-c", 'for each; do cat "$each/file.txt" || exit; done', "sh", *wanted)
        assert (result.stdout, result.code) == ("shared\n" * 32, 0), result
        for target in wanted:
            assert await session.read(f"{target}/file.txt") == b"shared\n"
        await session.delete()
    assert await fields_refused(mounted, extra_mounts=[*many, mount(shared, "/one-more")]) == ["spec.extra_mounts"]


_WRITE_ATTEMPTS = """
import ctypes, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
file = "/data/file.txt"
reader = os.open(file, os.O_RDONLY)
def tried(name, work):
    try:
        work()
    except OSError as error:
        print("refused", error.errno)
    else:
        print("OPEN", name)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
tried("write", lambda: os.open(file, os.O_RDWR))
tried("append", lambda: os.open(file, os.O_WRONLY | os.O_APPEND))
tried("create", lambda: os.open("/data/new", os.O_CREAT | os.O_WRONLY))
tried("temporary", lambda: os.open("/data", os.O_TMPFILE | os.O_RDWR))
tried("truncate", lambda: os.truncate(file, 0))
tried("mode", lambda: os.chmod(file, 0o777))
tried("owner", lambda: os.chown(file, 1000, 1000))
tried("times", lambda: os.utime(file))
tried("link", lambda: os.link(file, "/data/link"))
tried("link out", lambda: os.link(file, "/workspace/link"))
tried("symlink", lambda: os.symlink("x", "/data/link"))
tried("rename", lambda: os.rename(file, "/data/other"))
tried("remove", lambda: os.unlink(file))
tried("directory", lambda: os.mkdir("/data/dir"))
tried("fifo", lambda: os.mkfifo("/data/fifo"))
tried("attribute", lambda: os.setxattr(file, "user.x", b"x"))
tried("again", lambda: os.open(f"/proc/self/fd/{reader}", os.O_RDWR))
tried("root", lambda: os.open("/proc/self/root/data/file.txt", os.O_RDWR))
tried("shared memory", lambda: mmap.mmap(reader, 4, mmap.MAP_SHARED, mmap.PROT_WRITE))
tried("truncate open", lambda: os.ftruncate(reader, 0))
tried("remount", lambda: call(165, b"none", b"/data", b"", 32 | 4096, None))
tried("unmount", lambda: call(166, b"/data", 2))
tried("attributes of the mount", lambda: call(442, -100, b"/data", 0, b"\\0" * 32, 32))
print(open(file).read(), end="")
"""


async def test_a_read_only_mount_is_read_only_in_every_way(mounted: PortwayChannel, mounting: Mounting) -> None:
    shared = mounting.shared
    session = await new_session(mounted, extra_mounts=[mount(shared / "real")])
    refused = await session.python(_WRITE_ATTEMPTS)
    assert "OPEN" not in refused.stdout, refused
    assert refused.stdout.count("refused") == 23
    assert refused.stdout.endswith("shared\n")
    for path in ("/data/file.txt", "/data/new"):
        with pytest.raises(NotPermitted):
            await session.write(path, b"x")
    await session.delete()
    # The same attempts where writing is allowed: most go through, so it was not for another reason.
    session = await new_session(mounted, extra_mounts=[mount(shared / "scratch", mode=READ_WRITE)])
    allowed = await session.python(_WRITE_ATTEMPTS.replace('tried("remove"', 'tried("remove", len); ("remove"'))
    assert allowed.stdout.count("OPEN") >= 7, allowed
    await session.delete()


async def test_an_empty_mount_covers_and_stays_empty(mounted: PortwayChannel, mounting: Mounting) -> None:
    none = session_pb2.Mount(target="/opt/x", mode=session_pb2.MOUNT_MODE_NONE)
    ignored = session_pb2.Mount(source="/etc", target="/opt/y", mode=session_pb2.MOUNT_MODE_NONE)
    session = await new_session(mounted, extra_mounts=[none, ignored])
    result = await session.attempt("ls -A /opt/x /opt/y; touch /opt/x/a /opt/y/a 2>/dev/null || echo refused")
    assert result.stdout == "/opt/x:\n\n/opt/y:\nrefused\n"
    await session.delete()


@contextmanager
def swapped(one: Path, other: Path) -> Iterator[None]:
    """Exchanges two names as fast as it goes, and leaves them as they were."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    stopping = threading.Event()
    count = 0

    def swap() -> None:
        nonlocal count
        while not stopping.is_set() or count % 2:
            assert libc.renameat2(-100, names[0], -100, names[1], _EXCHANGE) == 0
            count += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


async def seen_through(channel: PortwayChannel, tries: int, **spec: Any) -> tuple[int, int]:
    """Makes sessions and reads what they show; how often it was what is allowed, and how often refused."""

    async def one() -> bool:
        try:
            session = await new_session(channel, **spec)
        except PortwayError:
            return False
        result = await session.attempt("cat /data/file.txt /workspace/file.txt 2>/dev/null; ls /data /workspace")
        assert SECRET not in result.stdout
        assert "passwd" not in result.stdout
        with contextlib.suppress(PortwayError):
            assert SECRET.encode() not in await session.read("/data/file.txt")
        await session.delete()
        return True

    made = 0
    for _ in range(0, tries, 4):
        made += sum(await asyncio.gather(*(one() for _ in range(4))))
    return made, tries - made


async def race(channel: PortwayChannel, box: Mounting, tries: int) -> None:
    shared = box.shared
    made = refused = 0
    for link, source in (("to-outside", shared / "real"), ("to-etc", shared / "real"), ("up", shared / "inner/deep")):
        one = shared / "inner" if source.name == "deep" else source
        with swapped(one, shared / link):
            good, bad = await seen_through(channel, tries, extra_mounts=[mount(source)])
        made, refused = made + good, refused + bad
    with swapped(shared / "real", shared / "to-outside"):
        good, bad = await seen_through(channel, tries, workspace_source=str(shared / "real"))
    assert made + good > 0
    assert refused + bad > 0
    session = await new_session(channel, extra_mounts=[mount(shared / "real"), mount(shared / "inner/deep", "/deep")])
    assert (await session.sh("cat /data/file.txt /deep/file.txt")).stdout == "shared\nshared\n"
    await session.delete()


async def test_a_source_swapped_while_a_session_is_made_never_leads_out(
    mounted: PortwayChannel, mounting: Mounting
) -> None:
    await race(mounted, mounting, 12)


@pytest.mark.heavy
async def test_a_source_swapped_thousands_of_times_never_leads_out(mounted: PortwayChannel, mounting: Mounting) -> None:
    await race(mounted, mounting, 1000)


def _with_group_file(folder: Path) -> Path:
    folder.chmod(0o755)
    (folder / "group.txt").write_text(SECRET)
    (folder / "group.txt").chmod(0o640)
    return folder


async def test_files_that_only_the_boxs_own_groups_may_read_are_not_read_for_a_session() -> None:
    if reason := why_not(ROOT):
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="portway-mounts-") as name, box_process(ROOT) as box:
        shared = _with_group_file(Path(name))
        box.settings = {"mount_roots": [str(shared)]}
        # As a login as root has it, and many more.
        box.through = ["setpriv", "--groups", "0,4,27,999"]
        box.start()
        async with dial(box) as channel:
            session = await new_session(channel, extra_mounts=[mount(shared)])
            assert "Permission denied" in (await session.attempt("cat /data/group.txt")).stderr
            with pytest.raises(NotPermitted):
                await session.read("/data/group.txt")


async def test_a_command_cannot_move_what_a_mount_stands_on(mounted: PortwayChannel, mounting: Mounting) -> None:
    where = "/own/place/below"
    session = await new_session(mounted, extra_mounts=[mount(mounting.shared / "real", where)], read_only_root=False)
    await _move_away(session, where)
    for _ in range(3):
        result = await session.attempt(f"cat {where}/file.txt; touch {where}/x 2>/dev/null || echo refused")
        assert result.stdout == "shared\nrefused\n", result
    await session.delete()


async def _move_away(session: Inside, where: str) -> None:
    script = "touch /written && echo writable"
    for path in (where, *map(str, Path(where).parents)):
        script += f"; mv {path} /moved 2>/dev/null && echo MOVED; rmdir {path} 2>/dev/null && echo REMOVED"
        script += f"; ln -sfnT /workspace {path} 2>/dev/null && echo LINKED"
    assert (await session.attempt(script)).stdout == "writable\n"
