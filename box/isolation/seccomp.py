"""The system call filters of every sandbox: two stacked programs, shipped built for each architecture.

Built with libseccomp by `python -m portway.box.isolation.seccomp`; servers only read the files, so that they need
neither the library nor the time.
"""

import errno
import json
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

DATA = Path(__file__).parent / "data"
ARCHITECTURES = ("x86_64", "aarch64")
# The last call of the table that was looked through; what came later answers ENOSYS.
LAST_CALL = 461
# From here on all architectures share one numbering.
FIRST_SHARED_NUMBER = 424
# set_mempolicy_home_node, statmount, listmount: nothing inside needs them, and old libraries know no names for them.
REFUSED_NUMBERS = (450, 457, 458)

REFUSED = """
acct add_key adjtimex bpf chroot clock_adjtime clock_settime create_module delete_module fanotify_init finit_module
fsconfig fsmount fsopen fspick get_kernel_syms get_mempolicy init_module io_uring_enter io_uring_register
io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind memfd_secret migrate_pages
modify_ldt mount mount_setattr move_mount move_pages name_to_handle_at nfsservctl open_by_handle_at open_tree
perf_event_open pidfd_getfd pivot_root process_madvise process_vm_readv process_vm_writev ptrace query_module quotactl
quotactl_fd reboot request_key set_mempolicy setdomainname sethostname setns settimeofday stime
swapoff swapon syslog sysfs _sysctl umount umount2 unshare uselib userfaultfd ustat vhangup vm86 vm86old
""".split()
# clone3 hides its flags behind a pointer: libc falls back to clone, whose flags a filter can see. Kernel AIO has one
# limit for the whole machine, which a single session could use up; libraries do without it.
UNKNOWN = ("clone3", "io_setup", "io_destroy", "io_submit", "io_cancel", "io_getevents", "io_pgetevents")
# Calls of recent kernels that a builder's library may know by number only.
NEWER = ("close_range", "openat2", "faccessat2", "epoll_pwait2", "futex_waitv", "cachestat", "fchmodat2", "rseq")
LIMITED = ("clone", "socket", "socketpair", "personality")

_NEW_NAMESPACES = 0x7E020000
_UNIX = 1
_INTERNET = (2, 10)
_STREAM, _DATAGRAM, _RAW = 1, 2, 3
_SOCKET_KIND = 0xF
# The default, ICMP, TCP, UDP, ICMPv6. Asking for another makes the kernel load a module for it.
_PROTOCOLS = (0, 1, 6, 17, 58)
_NETLINK, _NETLINK_ROUTE = 16, 0
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
# TIOCSTI and TIOCLINUX type for others; TIOCSETD loads line disciplines, old code that nothing inside needs.
_REFUSED_IOCTLS = (0x5412, 0x541C, 0x5423)


class NoPrograms(Exception):
    """There are no filters for this machine's architecture."""


def program_files(machine: str | None = None) -> tuple[Path, Path]:
    """The two programs, in the order in which they are loaded. Raises `NoPrograms`."""
    machine = machine or platform.machine()
    files = (DATA / f"{machine}-calls.bpf", DATA / f"{machine}-ioctl.bpf")
    if not all(file.is_file() for file in files):
        raise NoPrograms(f"no system call filter is built for {machine}; there is one for {', '.join(ARCHITECTURES)}")
    return files


def engine_profile(machine: str | None = None) -> str:
    """The same policy as a profile for container engines, for what runs before the two programs are loaded. JSON."""
    machine = machine or platform.machine()
    file = DATA / f"{machine}-engine.json"
    if not file.is_file():
        raise NoPrograms(f"no system call profile is built for {machine}; there is one for {', '.join(ARCHITECTURES)}")
    return file.read_text()


def build(machine: str) -> tuple[bytes, bytes]:
    """Both programs for an architecture, made with libseccomp."""
    # Only this builder needs the library, and not every machine that runs a box has it.
    import pyseccomp  # noqa: PLC0415

    return _export(_calls_filter(pyseccomp, machine)), _export(_ioctl_filter(pyseccomp, machine))


def _architecture(seccomp: ModuleType, machine: str) -> Any:
    return {"x86_64": seccomp.Arch.X86_64, "aarch64": seccomp.Arch.AARCH64}[machine]


def build_profile(machine: str) -> str:
    """The profile for an architecture. A name that the engine's library does not know is skipped by it."""
    import pyseccomp  # noqa: PLC0415 - as above

    arch = _architecture(pyseccomp, machine)
    known = [call for call in _table(pyseccomp, arch) if isinstance(call, str)]
    # The engine's own library may know calls by name that the one of this builder has only a number for.
    known += [name for name in NEWER if name not in known]
    allowed = [name for name in known if name not in {*REFUSED, *UNKNOWN, *LIMITED}]
    rules: list[dict[str, object]] = [{"names": sorted(allowed), "action": "SCMP_ACT_ALLOW"}]
    rules.append({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [_no_bits(0, _NEW_NAMESPACES)]})
    for family in (_UNIX, *_INTERNET):
        rules.append({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [_equal(0, family)]})
    rules.append({"names": ["socketpair"], "action": "SCMP_ACT_ALLOW", "args": [_equal(0, _UNIX)]})
    route = [_equal(0, _NETLINK), _equal(2, _NETLINK_ROUTE)]
    rules.append({"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": route})
    for value in _PERSONALITIES:
        rules.append({"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [_equal(0, value)]})
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": [{"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[machine]],
        "syscalls": rules,
    }
    return json.dumps(profile, indent=1) + "\n"


def _equal(index: int, value: int) -> dict[str, object]:
    return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}


def _no_bits(index: int, mask: int) -> dict[str, object]:
    return {"index": index, "value": mask, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}


def _new_filter(seccomp: ModuleType, machine: str, default: object) -> Any:
    made = seccomp.SyscallFilter(default)
    if machine != platform.machine():
        made.add_arch(_architecture(seccomp, machine))
        made.remove_arch(seccomp.Arch.NATIVE)
    made.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    return made


def _calls_filter(seccomp: ModuleType, machine: str) -> Any:
    made = _new_filter(seccomp, machine, seccomp.ERRNO(errno.ENOSYS))
    arch = _architecture(seccomp, machine)
    for call in _table(seccomp, arch):
        # The library translates names, not numbers: built on another machine, the newest calls are left out.
        nameless = isinstance(call, int) and machine != platform.machine()
        if call not in {*REFUSED, *UNKNOWN, *LIMITED} and not nameless:
            made.add_rule(seccomp.ALLOW, call)
    for name in REFUSED:
        if seccomp.resolve_syscall(arch, name) >= 0:
            made.add_rule(seccomp.ERRNO(errno.EPERM), name)
    _add_limited(seccomp, made)
    return made


def _add_limited(seccomp: ModuleType, made: Any) -> None:
    argument, equal = seccomp.Arg, seccomp.EQ
    made.add_rule(seccomp.ALLOW, "clone", argument(0, seccomp.MASKED_EQ, _NEW_NAMESPACES, 0))
    made.add_rule(seccomp.ALLOW, "socket", argument(0, equal, _UNIX))
    made.add_rule(seccomp.ALLOW, "socketpair", argument(0, equal, _UNIX))
    for family in _INTERNET:
        own = argument(0, equal, family)
        for kind in (_STREAM, _DATAGRAM):
            masked = argument(1, seccomp.MASKED_EQ, _SOCKET_KIND, kind)
            for protocol in _PROTOCOLS:
                made.add_rule(seccomp.ALLOW, "socket", own, masked, argument(2, equal, protocol))
        # Refused by the kernel itself, with the error that programs know.
        raw = argument(1, seccomp.MASKED_EQ, _SOCKET_KIND, _RAW)
        made.add_rule(seccomp.ALLOW, "socket", own, raw)
    made.add_rule(seccomp.ALLOW, "socket", argument(0, equal, _NETLINK), argument(2, equal, _NETLINK_ROUTE))
    for value in _PERSONALITIES:
        made.add_rule(seccomp.ALLOW, "personality", argument(0, equal, value))


def _ioctl_filter(seccomp: ModuleType, machine: str) -> Any:
    made = _new_filter(seccomp, machine, seccomp.ALLOW)
    for command in _REFUSED_IOCTLS:
        # Only the low 32 bits count for the kernel: comparing all 64 is a known way around.
        wanted = seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, command)
        made.add_rule(seccomp.ERRNO(errno.EPERM), "ioctl", wanted)
    return made


def _table(seccomp: ModuleType, arch: Any) -> Iterator[str | int]:
    """Every call of the architecture: by name, or by number where the library is older than the call."""
    for number in range(LAST_CALL + 1):
        if number in REFUSED_NUMBERS:  # also where the library has learnt their names
            continue
        try:
            yield seccomp.resolve_syscall(arch, number).decode()
        except ValueError:
            if number >= FIRST_SHARED_NUMBER:
                yield number


def _export(made: Any) -> bytes:
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


def main() -> None:
    for machine in ARCHITECTURES:
        for name, program in zip(("calls", "ioctl"), build(machine), strict=True):
            target = DATA / f"{machine}-{name}.bpf"
            target.write_bytes(program)
            print(f"{target.name}: {len(program) // 8} instructions")
        (DATA / f"{machine}-engine.json").write_text(build_profile(machine))


if __name__ == "__main__":
    main()
