"""Every system call of the table, every kind of socket, from inside, against what the filters promise."""

import json
import platform
import subprocess
import sys

import pytest

from tests.box.inside import Inside

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers in these tests are those of x86-64")

# Written down here once more, apart from the policy under test.
REFUSED = {
    "acct": 163, "add_key": 248, "adjtimex": 159, "bpf": 321, "chroot": 161, "clock_adjtime": 305,
    "clock_settime": 227, "create_module": 174, "delete_module": 176, "fanotify_init": 300, "finit_module": 313,
    "fsconfig": 431, "fsmount": 432, "fsopen": 430, "fspick": 433, "get_kernel_syms": 177, "get_mempolicy": 239,
    "init_module": 175, "io_uring_enter": 426, "io_uring_register": 427, "io_uring_setup": 425, "ioperm": 173,
    "iopl": 172, "kcmp": 312, "kexec_file_load": 320, "kexec_load": 246, "keyctl": 250, "lookup_dcookie": 212,
    "mbind": 237, "memfd_secret": 447, "migrate_pages": 256, "modify_ldt": 154, "mount": 165, "mount_setattr": 442,
    "move_mount": 429, "move_pages": 279, "name_to_handle_at": 303, "nfsservctl": 180, "open_by_handle_at": 304,
    "open_tree": 428, "perf_event_open": 298, "pidfd_getfd": 438, "pivot_root": 155, "process_madvise": 440,
    "process_vm_readv": 310, "process_vm_writev": 311, "ptrace": 101, "query_module": 178, "quotactl": 179,
    "quotactl_fd": 443, "reboot": 169, "request_key": 249, "set_mempolicy": 238, "setdomainname": 171,
    "sethostname": 170, "setns": 308, "settimeofday": 164, "swapoff": 168, "swapon": 167, "syslog": 103, "sysfs": 139,
    "_sysctl": 156, "umount2": 166, "unshare": 272, "uselib": 134, "userfaultfd": 323, "ustat": 136, "vhangup": 153,
}  # fmt: skip
UNKNOWN = {
    "clone3": 435, "io_setup": 206, "io_destroy": 207, "io_getevents": 208, "io_submit": 209, "io_cancel": 210,
    "io_pgetevents": 333, "set_mempolicy_home_node": 450, "statmount": 457, "listmount": 458,
}  # fmt: skip
LAST_OF_TODAY = 461
EPERM, ENOSYS = 1, 38

# Each call in a process of its own, with arguments that hurt nobody: what it answers is its exit code. Whatever it
# does instead (sleep, end, crash, fork) counts as having been let through.
EACH_CALL = """
import ctypes, json, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
numbers, value = json.loads(sys.argv[1])
wrong = ctypes.c_long(value)
def answer(number):
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        done = libc.syscall(ctypes.c_long(number), wrong, wrong, wrong, wrong, wrong, wrong)
        os._exit(0 if done >= 0 else ctypes.get_errno())
    _pid, status = os.waitpid(pid, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
print(json.dumps({number: answer(number) for number in numbers}))
"""


async def answers(inside: Inside, numbers: list[int], value: int = -1) -> dict[int, int]:
    """What each call answers inside: 0, an error's number, or minus the signal that ended the caller."""
    asked = json.dumps([numbers, value])
    result = await inside.attempt(f"exec /usr/bin/python3 -I -c '{EACH_CALL}' '{asked}'", timeout=60.0)
    said = json.loads(result.stdout.splitlines()[-1])
    return {int(number): answer for number, answer in said.items()}


async def test_every_call_of_the_table_answers_what_the_policy_says(inside: Inside) -> None:
    numbers = list(range(LAST_OF_TODAY + 20))
    told = await answers(inside, numbers)
    assert {name: told[number] for name, number in REFUSED.items() if told[number] != EPERM} == {}
    assert {name: told[number] for name, number in UNKNOWN.items() if told[number] != ENOSYS} == {}
    assert {number: told[number] for number in numbers if number > LAST_OF_TODAY and told[number] != ENOSYS} == {}
    # Those that programs need are there: what was measured is the filter and not a broken sandbox.
    let_through = {number for number in range(LAST_OF_TODAY + 1) if told[number] not in (EPERM, ENOSYS)}
    assert len(let_through) > 230
    assert {0, 1, 2, 3, 9, 59, 257, 437} <= let_through


async def test_numbers_that_no_table_has_get_nowhere(inside: Inside) -> None:
    numbers = [512, 547, 600, 1000, 0x7FFFFFFF, -2, -38, -(2**31)]
    assert set((await answers(inside, numbers, 0)).values()) <= {ENOSYS, -31}


async def test_the_calls_of_x32_kill(inside: Inside) -> None:
    x32 = 0x40000000
    told = await answers(inside, [x32 | number for number in (0, 39, 101, 165, 272, 512, 520, 545)], 0)
    assert set(told.values()) == {-31}


def test_the_same_calls_answer_otherwise_outside() -> None:
    numbers = [UNKNOWN["clone3"], *(REFUSED[name] for name in ("unshare", "userfaultfd", "setns", "pidfd_getfd"))]
    done = subprocess.run(
        [sys.executable, "-c", EACH_CALL, json.dumps([numbers, -1])], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout)
    assert [answer for answer in told.values() if answer not in (EPERM, ENOSYS)], told


_SOCKETS = """
import ctypes, json, os
libc = ctypes.CDLL(None, use_errno=True)
opened = set()
for call in (41, 53):
    pair = (ctypes.c_int * 2)()
    for family in [*range(46), *((1 << 32) + family for family in (1, 2, 16, 17, 38, 40))]:
        for kind in (1, 2, 3, 4, 5, 6, 10, 1 | 0o2000000, 3 | 0o4000, 3 + (1 << 32)):
            for protocol in (0, 1, 2, 6, 9, 12, 15, 16, 17, 33, 58, 132, 136, 255, 262, 1 << 32):
                made = libc.syscall(call, *map(ctypes.c_long, (family, kind, protocol)), pair)
                if made >= 0:
                    opened.add((family, kind & 0xF, protocol))
                    for one in ([made] if call == 41 else list(pair)):
                        os.close(one)
print(json.dumps(sorted(opened)))
"""


async def test_only_the_kinds_of_sockets_that_are_promised_can_be_made(inside: Inside) -> None:
    result = await inside.python(_SOCKETS, timeout=60.0)
    opened = {tuple(one) for one in json.loads(result.stdout)}
    unix = {one for one in opened if one[0] == 1}
    internet = {one for one in opened if one[0] in (2, 10)}
    route = {one for one in opened if one[0] == 16}
    assert opened == unix | internet | route
    assert {kind for _family, kind, _protocol in internet} <= {1, 2}
    assert {protocol for _family, _kind, protocol in internet} <= {0, 1, 6, 17, 58}
    assert {protocol for _family, _kind, protocol in route} <= {0}
    # And these work, so that nothing above is empty by accident.
    assert {(1, 1, 0), (1, 2, 0), (2, 1, 0), (2, 2, 0), (16, 3, 0)} <= opened


_GAIN_NOTHING = """
import ctypes, os, resource, struct
libc = ctypes.CDLL(None, use_errno=True)
def tried(name, done):
    print(name, "OPEN" if done >= 0 else ctypes.get_errno())
def prctl(*arguments):
    return libc.prctl(*map(ctypes.c_long, arguments))
for flags in (0x10000000, 0x50000000, 0x20000, 0x80 | 0x02000000):
    pid = libc.syscall(56, ctypes.c_long(flags | 17), 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    tried("clone", pid)
tried("PR_SET_MM", prctl(35, 1, 0, 0, 0))
tried("PR_CAP_AMBIENT_RAISE", prctl(47, 2, 21, 0, 0))
tried("PR_SET_SECUREBITS", prctl(28, 0x2F, 0, 0, 0))
tried("PR_SET_NO_NEW_PRIVS off", prctl(38, 0, 0, 0, 0))
tried("PR_SET_SECCOMP off", prctl(22, 0, 0, 0, 0))
tried("capset", libc.syscall(126, struct.pack("=Ii", 0x20080522, 0), b"\\xff" * 24))
tried("setuid", libc.syscall(105, 0))
tried("setresuid", libc.syscall(117, 0, 0, 0))
tried("setgroups", libc.syscall(116, 1, struct.pack("=I", 0)))
tried("nice", libc.syscall(141, 0, 0, ctypes.c_long(-5)))
for policy in (1, 2):
    tried("real time", libc.syscall(144, 0, policy, struct.pack("=i", 1)))
tried("deadline", libc.syscall(314, 0, struct.pack("=IIQiIQQQ", 48, 6, 0, 0, 0, 10**7, 10**8, 10**8), 0))
tried("ioprio", libc.syscall(251, 1, 0, (1 << 13) | 0))
tried("mlockall", libc.syscall(151, 3))
tried("mq_open", libc.syscall(240, b"queue", 0o102, 0o600, None))
tried("device", libc.syscall(133, b"/workspace/device", 0o20666, (1 << 8) | 1))
for what in ("NICE", "RTPRIO", "MEMLOCK", "MSGQUEUE", "NPROC", "NOFILE", "CORE", "FSIZE"):
    soft, hard = resource.getrlimit(getattr(resource, "RLIMIT_" + what))
    try:
        resource.setrlimit(getattr(resource, "RLIMIT_" + what), (hard + 1, hard + 1))
        print(what, "OPEN")
    except (OSError, ValueError):
        print(what, "refused")
# The caller's own filter comes on top and takes no refusal away.
program = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000))
described = struct.pack("=HxxxxxxQ", 1, ctypes.addressof(program))
listener = libc.syscall(317, 1, 8, described)
print("filter", "on" if listener >= 0 else ctypes.get_errno())
tried("mount", libc.syscall(165, b"none", b"/tmp", b"tmpfs", 0, None))
tried("ioctl", libc.syscall(16, 0, ctypes.c_long(0xFFFFFFFF00005412), b"x"))
"""


async def test_nothing_is_gained_by_asking_the_kernel(inside: Inside) -> None:
    result = await inside.python(_GAIN_NOTHING)
    lines = result.stdout.splitlines()
    assert len(lines) >= 30, result
    # Memory may be locked up to its limit, which is small.
    assert [line for line in lines if "OPEN" in line and not line.startswith("mlockall")] == [], result
    assert "mount 1" in lines
    assert "ioctl 1" in lines


_PLACES = """
import os
for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sys/user/max_user_namespaces",
    "/proc/sys/kernel/ns_last_pid", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups",
    "/proc/self/oom_score_adj", "/proc/self/mem", "/proc/1/mem", "/proc/1/oom_score_adj", "/proc/self/attr/current",
    "/proc/self/timens_offsets", "/proc/self/clear_refs", "/proc/pressure/cpu", "/proc/sysrq-trigger", "/proc/mtrr",
    "/proc/irq/default_smp_affinity", "/proc/bus/pci", "/proc/fs/ext4", "/proc/acpi", "/proc/scsi/scsi"):
    try:
        os.close(os.open(path, os.O_WRONLY))
        print("OPEN", path)
    except OSError as error:
        print("refused", error.errno)
for name in os.listdir("/proc/1/fd"):
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        try:
            fd = os.open(f"/proc/1/fd/{name}", flags)
            print(os.readlink(f"/proc/self/fd/{fd}").split(":")[0])
        except OSError:
            pass
for path in ("/proc/1/root", "/proc/1/cwd", "/proc/self/root", "/proc/thread-self/root"):
    try:
        print(",".join(sorted(os.listdir(path))))
    except OSError as error:
        print("refused", error.errno)
"""


async def test_no_file_of_proc_is_for_writing_and_none_leads_out(inside: Inside) -> None:
    result = await inside.python(_PLACES)
    assert "OPEN" not in result.stdout, result
    assert result.stdout.count("refused") >= 22
    everything = ",".join(sorted((await inside.sh("ls -A /")).stdout.split()))
    working_directory = ",".join(sorted((await inside.sh("ls -A")).stdout.split()))
    seen = {line for line in result.stdout.splitlines() if not line.startswith("refused")}
    assert seen <= {"pipe", "/dev/null", everything, working_directory}, result
