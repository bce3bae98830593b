"""The small root in which the launcher process lives. Each session gets a copy of it with its own mounts on the stage.

They are mount namespaces of their own: when the last process in one ends, its mounts go, and with them loop devices.
Nothing of the machine is in reach of a session's user there but /usr, a generated /etc and a few devices.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from portway.box.backends.types import SOCKETS, HostMount
from portway.box.isolation import syscalls
from portway.box.isolation.syscalls import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_REC, MS_SLAVE

ETC = "/template/etc"
EMPTY = "/empty"
FILTERS = ("/filters/calls.bpf", "/filters/ioctl.bpf")
STAGE = "/stage"
# Shown to commands as /run, read only: what is below the box alone can change.
RUN = f"{STAGE}/run"
SOCKETS_STAGED = RUN + SOCKETS.removeprefix("/run")
# Only root enters here: below it is the machine itself, for mounting what an operator allows.
PRIVATE = "/private"
HOST = f"{PRIVATE}/host"

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_COPIED = ("ld.so.cache", "localtime", "nsswitch.conf", "mime.types", "services", "protocols")
_SHOWN = ("alternatives", "ssl/certs")
_GENERATED = {
    "passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\nuser:x:1000:1000:user:/workspace:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1\tlocalhost sandbox\n::1\tlocalhost\n",
    "hostname": "sandbox\n",
    "resolv.conf": "nameserver 127.0.0.1\n",
}


def _top_level() -> dict[str, str]:
    """Which of /bin, /lib … this machine has: with the target of a link, or empty for a directory of its own."""
    found: dict[str, str] = {}
    for name in _LINKED:
        path = Path("/") / name
        if path.is_symlink():
            found[name] = os.readlink(path).lstrip("/")
        elif path.is_dir():
            found[name] = ""
    return found


TOP_LEVEL = _top_level()


@dataclass(frozen=True, slots=True)
class StagedSession:
    """Where the mounts of a session are, as seen in its copy of the small root.

    `leader` makes a program the leader of a session that owns its terminal; an image may have none.
    """

    writable_root: bool
    mounts: tuple[HostMount, ...]
    workspace_read_only: bool = False
    from_image: bool = False
    leader: tuple[str, ...] = ("/usr/bin/setsid", "--ctty")

    def path(self, name: str) -> str:
        return f"{STAGE}/{name}"


def read_template() -> dict[str, bytes]:
    """The files of /etc for every session, read while the machine's own /etc is still there."""
    files = {name: text.encode() for name, text in _GENERATED.items()}
    for name in _COPIED:
        try:
            files[name] = (Path("/etc") / name).read_bytes()
        except OSError:
            continue
    return files


def enter_small_root(base: str, filters: tuple[bytes, bytes], *, own_pids: bool) -> None:
    """Builds the small root on the directory `base` and moves this process into it. Needs a new mount namespace."""
    syscalls.mount("none", "/", "", MS_REC | MS_SLAVE)
    template = read_template()
    syscalls.mount("portway-box", base, "tmpfs", MS_NOSUID, "size=16m,nr_inodes=64k,mode=0755")
    # bubblewrap builds its own root on /tmp.
    for name in ("usr", "proc", "dev", "tmp", "template/etc", "empty", "filters", "stage", "private/host"):
        os.makedirs(base + "/" + name)
    os.chmod(base + PRIVATE, 0o700)
    os.chmod(base + STAGE, 0o711)
    _show_system(base)
    _write_template(base, template)
    for path, program in zip(FILTERS, filters, strict=True):
        _write(base + path, program)
    for name in _DEVICES:
        _write(f"{base}/dev/{name}", b"")
        syscalls.mount(f"/dev/{name}", f"{base}/dev/{name}", "", MS_BIND)
    if own_pids:
        syscalls.mount("proc", base + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    syscalls.pivot_root(base, base + HOST)
    os.chdir("/")


def _show_system(base: str) -> None:
    # With what is mounted below: where namespaces belong to a plain user, a mount cannot be had without its children.
    syscalls.mount("/usr", base + "/usr", "", MS_BIND | MS_REC)
    for name, link in TOP_LEVEL.items():
        if link:
            os.symlink(link, f"{base}/{name}")
        else:
            os.mkdir(f"{base}/{name}")
            syscalls.mount(f"/{name}", f"{base}/{name}", "", MS_BIND | MS_REC)


def _write_template(base: str, template: dict[str, bytes]) -> None:
    for name, content in template.items():
        _write(f"{base}{ETC}/{name}", content)
    for name in _SHOWN:
        if os.path.isdir(f"/etc/{name}"):
            os.makedirs(f"{base}{ETC}/{name}")
            syscalls.mount(f"/etc/{name}", f"{base}{ETC}/{name}", "", MS_BIND | MS_REC)


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, 0o644)
