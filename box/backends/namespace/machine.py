"""What this machine and this process allow, found out before anything is tried, with the words to say so."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from portway.box.isolation.disk_images import find_tool
from portway.box.isolation.seccomp import NoPrograms, program_files
from portway.box.isolation.syscalls import effective_capabilities
from portway.rpc.errors import WrongState

# CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, NET_ADMIN, SYS_ADMIN: what making sandboxes as root takes.
_NEEDED = sum(1 << bit for bit in (0, 1, 3, 5, 6, 7, 12, 21))


@dataclass(frozen=True, slots=True)
class Machine:
    """`root`: this process may mount, join control groups, change users. `bwrap`: the real path, empty if missing."""

    root: bool
    bwrap: str
    loop_devices: bool
    problem: str

    @classmethod
    def look(cls) -> "Machine":
        found = shutil.which("bwrap")
        capable = effective_capabilities() & _NEEDED == _NEEDED
        root = os.geteuid() == 0 and capable
        loops = root and Path("/dev/loop-control").exists() and find_tool("mkfs.ext4") is not None
        return cls(root, os.path.realpath(found) if found else "", loops, _problem(found, root))

    @property
    def mode(self) -> str:
        return "root" if self.root else "unprivileged"

    def require(self) -> None:
        """Raises `WrongState` with what is missing and what to do."""
        if self.problem:
            raise WrongState(self.problem)

    def filters(self) -> tuple[bytes, bytes]:
        calls, ioctl = program_files()
        return calls.read_bytes(), ioctl.read_bytes()

    def hint(self, reason: str) -> str:
        """What to do about a refusal of the kernel."""
        if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
            return (
                "this kernel restricts user namespaces by AppArmor: install a profile that allows them for bwrap, "
                "or `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
            )
        if _setting("kernel/unprivileged_userns_clone") == "0":
            return "user namespaces are off: `sysctl kernel.unprivileged_userns_clone=1`"
        if _setting("user/max_user_namespaces") == "0":
            return "user namespaces are off: `sysctl user.max_user_namespaces=10000`"
        if not _root_is_a_mount():
            return (
                "this is a chroot, in which the kernel allows no sandbox; run the box outside of it, or in a container"
            )
        if "Operation not permitted" in reason or "Permission denied" in reason:
            return "the kernel or a container's policy refuses new namespaces; run the box outside of it, or as root"
        return "see the box's log"


def _problem(bwrap: str | None, root: bool) -> str:
    if sys.platform != "linux":
        return f"the namespace backend needs Linux, this is {sys.platform}"
    if bwrap is None:
        return "bubblewrap is not installed: install the package `bubblewrap` so that `bwrap` is on the PATH"
    try:
        program_files()
    except NoPrograms as error:
        return str(error)
    if os.geteuid() == 0 and not root:
        # Its sandboxes would own root's files on this machine, with only the missing capabilities in between.
        return "the box runs as root without root's capabilities (a container?); run it as a plain user instead"
    return ""


def _root_is_a_mount() -> bool:
    """Whether the root is one that mounts and namespaces can be made on: that of a chroot is just a directory."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == "/" for line in lines)


def _setting(name: str) -> str:
    try:
        return (Path("/proc/sys") / name).read_text().strip()
    except OSError:
        return ""
