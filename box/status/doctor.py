"""Looks at the machine of the box: what is missing, what that costs and what to do. Each look is a function."""

import asyncio
import ctypes.util
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from portway.box.isolation.disk_images import find_tool
from portway.box.isolation.seccomp import NoPrograms, program_files
from portway.box.status.engines import look_at_engine
from portway.box.status.findings import Finding, fine, limited, missing
from portway.rpc.control_groups import find_hierarchies

_PROBE_SECONDS = 10
_OPENAT2_KERNEL = (5, 6)
_LOW_DISK_BYTES, _LEAST_DISK_BYTES = 4 << 30, 256 << 20
Look = Callable[[], Finding]


class Doctor:
    """`data` is the box's folder, `engines` the sockets of the settings by kind of engine."""

    def __init__(self, data: Path, engines: Mapping[str, str]) -> None:
        self._looks: tuple[Look, ...] = (
            look_at_kernel,
            look_at_bubblewrap,
            look_at_disable_userns,
            look_at_user_namespaces,
            look_at_filters,
            look_at_rights,
            look_at_control_groups,
            look_at_loop_devices,
            lambda: look_at_disk(data),
            *(partial(look_at_engine, kind, socket, os.environ) for kind, socket in engines.items()),
            look_at_nsjail,
        )

    async def look(self) -> list[Finding]:
        """All of them, beside each other, in the order in which they matter."""
        return list(await asyncio.gather(*(asyncio.to_thread(_safely, look) for look in self._looks)))

    @staticmethod
    def machine() -> str:
        return platform.node()


def _safely(look: Look) -> Finding:
    """A look that the machine does not allow is a finding too."""
    try:
        return look()
    except (OSError, subprocess.SubprocessError) as error:
        name = getattr(look, "__name__", "disk").removeprefix("look_at_").replace("_", " ")
        return limited(name, f"could not be looked at: {error}", "nothing is known of it", "see docs/box.md")


def look_at_kernel() -> Finding:
    release = platform.release()
    if platform.system() != "Linux":
        return missing("kernel", platform.system(), "no sandbox can be made", "run the box on Linux")
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < _OPENAT2_KERNEL:
        return missing(
            "kernel", release, "files of sessions cannot be resolved safely", "use Linux 5.6 or newer (openat2)"
        )
    return fine("kernel", release)


def look_at_bubblewrap() -> Finding:
    program = shutil.which("bwrap")
    if program is None:
        return missing(
            "bubblewrap", "not found", "the namespace backend makes no sandbox", "install the package bubblewrap"
        )
    return fine("bubblewrap", _said(program, "--version"))


def look_at_disable_userns() -> Finding:
    name = "bubblewrap --disable-userns"
    program = shutil.which("bwrap")
    if program is None:
        return limited(name, "no bubblewrap", "see above", "install the package bubblewrap")
    if "--disable-userns" in _said(program, "--help"):
        return fine(name, "there is one")
    return missing(
        name,
        "this bubblewrap is too old for it",
        "commands could make user namespaces of their own, so no sandbox is started",
        "install bubblewrap 0.8 or newer",
    )


def look_at_user_namespaces() -> Finding:
    name = "user namespaces"
    for setting, bad, said, advice in (
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "restricted by AppArmor (as on Ubuntu 24.04)",
            "install an AppArmor profile that allows userns for bwrap, or "
            "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        ),
        ("kernel/unprivileged_userns_clone", "0", "off", "`sysctl kernel.unprivileged_userns_clone=1`"),
        ("user/max_user_namespaces", "0", "none allowed", "`sysctl user.max_user_namespaces=10000`"),
    ):
        if _setting(setting) == bad:
            if os.geteuid() == 0 and not setting.startswith("user/"):
                return limited(name, f"{said} for plain users", "the box works as root only", advice)
            return missing(name, said, "no sandbox can be made", advice)
    program = shutil.which("bwrap")
    if program is None:
        return limited(name, "not tried: no bubblewrap", "nothing is known of them", "install the package bubblewrap")
    tried = _run(program, "--ro-bind", "/", "/", "--unshare-all", "--die-with-parent", "true")
    if tried.returncode:
        said = tried.stderr.strip()[:200]
        return missing(
            name,
            f"refused: {said}",
            "no sandbox can be made",
            "run the box outside of a container or chroot, or as root",
        )
    return fine(name, "allowed, and tried")


def look_at_filters() -> Finding:
    library = ctypes.util.find_library("seccomp")
    try:
        program_files()
    except NoPrograms as error:
        return missing("system call filters", str(error), "no sandbox is started without them", "use x86-64 or aarch64")
    told = "built in" + (
        f"; {library} is there to build others" if library else "; libseccomp is not needed to use them"
    )
    return fine("system call filters", told)


def look_at_rights() -> Finding:
    if os.geteuid() == 0:
        return fine("rights", "root")
    return limited(
        "rights",
        f"user {os.geteuid()}",
        "all sessions share this user: processes, memory and processor are bounded for each command or not at all",
        "run the box as root to have limits for each session",
    )


def look_at_control_groups() -> Finding:
    version = "version 2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "version 1"
    if os.geteuid() != 0:
        return limited(
            "control groups",
            f"{version}, not for a plain user",
            "memory_bytes, cpu_millis and pids are not bounded for a session as a whole",
            "run the box as root, or hand it a group with `Delegate=yes` of its systemd unit",
        )
    usable = [one for one in find_hierarchies() if os.access(one.own, os.W_OK)]
    kinds = frozenset[str]().union(*(one.kinds for one in usable))
    lacking = sorted({"memory", "pids", "cpu"} - kinds)
    if not lacking:
        return fine("control groups", f"{version} with {', '.join(sorted(kinds - {'kill'}))}")
    return limited(
        "control groups",
        f"{version} without {', '.join(lacking)}",
        f"not bounded for a session as a whole: {', '.join(lacking)}",
        "enable these controllers for the group that the box runs in",
    )


def look_at_loop_devices() -> Finding:
    name, cost = (
        "loop devices",
        "a workspace has no size of its own on disk: it is in memory, or a plain folder",
    )
    if find_tool("mkfs.ext4") is None:
        return limited(name, "mkfs.ext4 is not installed", cost, "install the package e2fsprogs")
    if not Path("/dev/loop-control").exists():
        return limited(name, "there is no /dev/loop-control", cost, "`modprobe loop`, or give the container the device")
    if os.geteuid() != 0:
        return limited(name, "not for a plain user", cost, "run the box as root")
    return fine(name, "there, with mkfs.ext4")


def look_at_disk(data: Path) -> Finding:
    usage = shutil.disk_usage(data)
    figures = os.statvfs(data)
    found = f"{usage.free >> 20} MiB free of {usage.total >> 20} where `box.data` is, {figures.f_favail} files"
    if usage.free < _LEAST_DISK_BYTES or (figures.f_files and figures.f_favail < 1000):
        return missing(
            "disk", found, "sessions cannot be made", "free space, or give the box another folder (`box.data`)"
        )
    if usage.free < _LOW_DISK_BYTES:
        return limited(
            "disk", found, "a few full sessions fill it", "free space, or lower `disk_bytes` of the profiles"
        )
    return fine("disk", found)


def look_at_nsjail() -> Finding:
    program = shutil.which("nsjail")
    if program is None:
        return limited(
            "nsjail", "not installed", "none: it is another way to do the same", "nothing, unless you want it"
        )
    return fine("nsjail", program)


def _said(*argv: str) -> str:
    done = _run(*argv)
    return (done.stdout + done.stderr).strip()


def _run(*argv: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        argv,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_PROBE_SECONDS,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def _setting(name: str) -> str:
    try:
        return (Path("/proc/sys") / name).read_text().strip()
    except OSError:
        return ""
