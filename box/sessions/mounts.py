"""Which directories of the machine a session may see, and where."""

import os
import posixpath
import pwd
import stat
from collections.abc import Sequence
from pathlib import Path

from portway.box.backends.types import TEMPORARY, WORKSPACE, HostMount, MountMode
from portway.box.sessions.types import MountRequest, SessionSpec
from portway.rpc.errors import InvalidInput

# Nothing at or below these is ever shown.
_SYSTEM_TREES = tuple(
    Path(path)
    for path in (
        "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root", "/run", "/sbin",
        "/sys", "/usr", "/var/run", "/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/lib/kubelet",
        "/var/lib/libvirt", "/var/lib/lxc", "/var/lib/private", "/var/backups", "/var/spool/cron",
    )
)  # fmt: skip
# These are not shown as such; what lies below may be.
_SYSTEM_DIRECTORIES = tuple(
    Path(path)
    for path in ("/", "/home", "/var", "/var/lib", "/var/log", "/opt", "/srv", "/mnt", "/media", "/tmp")
)  # fmt: skip
_SECRET_NAMES = frozenset(
    """.ssh .gnupg .aws .azure .docker .kube .config .netrc .git-credentials .npmrc .pypirc .pgpass .password-store
    .vault-token .mozilla""".split()
)
_FIRST_PERSON = 1000
_NO_PERSON = 65_534
# The kernel takes 255 bytes for a name and 4,096 for a path, of which bubblewrap needs some.
_NAME_BYTES, _PATH_BYTES = 255, 4000
# Inside, these places are the sandbox's own.
_RESERVED_INSIDE = (
    "/bin", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys", "/usr", "/var",
    TEMPORARY, WORKSPACE,
)  # fmt: skip


class MountRules:
    """Checks mounts against the roots that the operator allows. No roots: no mounts."""

    def __init__(self, roots: Sequence[Path], private: Sequence[Path]) -> None:
        """`private` are the box's own folders, with data of other sessions and credentials."""
        self._roots = tuple(Path(os.path.realpath(root)) for root in roots)
        self._private = tuple(Path(os.path.realpath(path)) for path in private)
        self._homes = _homes()

    def mounts(self, spec: SessionSpec) -> tuple[HostMount, ...]:
        targets: list[str] = []
        checked = []
        for index, mount in enumerate(spec.extra_mounts):
            where = f"spec.extra_mounts[{index}]"
            target = _target(mount.target, f"{where}.target", targets)
            targets.append(target)
            checked.append(self._mount(mount, target, where))
        return tuple(checked)

    def workspace(self, spec: SessionSpec) -> HostMount | None:
        """The machine's directory that is to be the workspace; `None` where the session gets one of its own."""
        if not spec.workspace_source:
            return None
        mode = MountMode.READ_ONLY if spec.mounts_read_only else MountMode.READ_WRITE
        request = MountRequest(spec.workspace_source, WORKSPACE, mode)
        mount = self._source(request, WORKSPACE, "spec.workspace_source")
        if not os.path.isdir(mount.source):
            raise InvalidInput.field("spec.workspace_source", "is not a directory")
        return mount

    def _mount(self, mount: MountRequest, target: str, where: str) -> HostMount:
        if mount.mode is MountMode.NONE:
            return HostMount("", "", target, mount.mode)
        return self._source(mount, target, f"{where}.source")

    def _source(self, mount: MountRequest, target: str, field: str) -> HostMount:
        if not mount.source.startswith("/") or "\0" in mount.source:
            raise InvalidInput.field(field, "must be an absolute path on the box's machine")
        # Links are resolved to judge where they lead; for the mount the kernel walks it again, without links.
        try:
            real = Path(os.path.realpath(mount.source))
        except OSError:  # a link of another process, or one that was changed meanwhile
            raise InvalidInput.field(field, "goes over a link that cannot be read") from None
        root = next((root for root in self._roots if real.is_relative_to(root)), None)
        if root is None:
            raise InvalidInput.field(field, "lies below none of the roots that the operator allows (`box.mount_roots`)")
        if self._is_forbidden(real):
            raise InvalidInput.field(
                field, "is a system directory, a home directory or a place of secrets, and never shown"
            )
        try:
            kind = os.stat(real).st_mode
        except OSError:
            raise InvalidInput.field(field, "does not exist") from None
        if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
            raise InvalidInput.field(field, "is neither a directory nor a regular file")
        return HostMount(str(root), str(real), target, mount.mode)

    def _is_forbidden(self, path: Path) -> bool:
        if path in _SYSTEM_DIRECTORIES or path.parent == Path("/home"):
            return True
        if any(home.is_relative_to(path) for home in self._homes) or _SECRET_NAMES.intersection(path.parts):
            return True
        closed = (*_SYSTEM_TREES, *self._private)
        return any(path.is_relative_to(tree) or tree.is_relative_to(path) for tree in closed)


def _homes() -> frozenset[Path]:
    """Home directories of people, wherever this machine keeps them, and the box's own."""
    homes = {one.pw_dir for one in pwd.getpwall() if one.pw_uid == 0 or _FIRST_PERSON <= one.pw_uid != _NO_PERSON}
    return frozenset(Path(os.path.realpath(home)) for home in {*homes, os.path.expanduser("~")} if home != "/")


def _target(target: str, field: str, others: Sequence[str]) -> str:
    if not is_plain_absolute(target) or target == "/":
        raise InvalidInput.field(field, "must be an absolute path without `.`, `..`, `//` or a slash at its end")
    if len(target.encode()) > _PATH_BYTES or any(len(part.encode()) > _NAME_BYTES for part in target.split("/")):
        raise InvalidInput.field(field, f"is longer than {_PATH_BYTES} bytes, or has a name above {_NAME_BYTES}")
    for other in (*_RESERVED_INSIDE, *others):
        if _overlap(target, other):
            raise InvalidInput.field(field, f"overlaps with {other}")
    return target


def is_plain_absolute(path: str) -> bool:
    return path.startswith("/") and "\0" not in path and posixpath.normpath(path) == path and not path.startswith("//")


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def check_working_directory(directory: str, mounts: Sequence[HostMount], field: str) -> None:
    """A working directory lies in the workspace, in /tmp or in a mount."""
    places = [WORKSPACE, TEMPORARY, *(mount.target for mount in mounts)]
    inside = is_plain_absolute(directory) and any(
        directory == place or directory.startswith(place + "/") for place in places
    )
    if not inside:
        raise InvalidInput.field(field, f"must be an absolute path within {', '.join(places)}")
