"""Ways out that were thought of. Each first proves that its sandbox runs."""

import asyncio
import os
import socket

import pytest

from portway.rpc.channel import PortwayChannel
from portway.rpc.ids import new_id
from portway.v1 import process_pb2
from tests.box.box_process import ROOT, BoxProcess
from tests.box.conftest import SECRET
from tests.box.inside import Inside, begin, new_session, until_said
from tests.box.machine import seen, users_of
from tests.box.programs import REFUSED_CALLS, SYSTEM_CALL

COMPLETED = process_pb2.EXIT_STATUS_COMPLETED


async def test_the_servers_environment_is_nowhere_to_be_read(inside: Inside) -> None:
    result = await inside.attempt("cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; echo --; env")
    assert SECRET not in result.stdout
    assert "--" in result.stdout


async def test_the_first_process_has_an_empty_environment_and_no_paths_in_its_arguments(
    inside: Inside, box: BoxProcess
) -> None:
    result = await inside.attempt("od -c /proc/1/environ | head -1; tr '\\0' ' ' < /proc/1/cmdline")
    if box.has_image:  # the first process is another user's, whose environment cannot be opened at all
        assert result.stdout.startswith("/.portway/kit/") and "Permission denied" in result.stderr
    else:
        assert result.stdout.startswith("0000000\n") and "bwrap --args" in result.stdout
    assert str(box.folder) not in result.stdout


async def test_only_the_three_standard_descriptors_are_open(inside: Inside) -> None:
    result = await inside.attempt("ls /proc/self/fd | tr '\\n' ' '")
    # The fourth is the directory that `ls` reads.
    assert result.stdout.split() == ["0", "1", "2", "3"]


async def test_the_machines_files_are_not_there(inside: Inside, box: BoxProcess) -> None:
    outside = box.folder / "outside.txt"
    outside.write_text("outside")
    places = f"{outside} {box.folder} /run/user /sys/block/* /sys/class/*"
    if not box.has_image:
        places += " /root /home /etc/shadow /etc/machine-id /sys /boot /var/lib /opt"
    result = await inside.attempt(f"ls -d {places} 2>/dev/null; cat {outside} 2>/dev/null; true")
    assert result.stdout == ""


async def test_the_mount_table_names_no_place_of_the_machine(inside: Inside, box: BoxProcess) -> None:
    result = await inside.attempt("cat /proc/self/mountinfo")
    assert " /workspace " in result.stdout
    assert str(box.folder) not in result.stdout
    assert "/private" not in result.stdout


async def test_the_way_over_another_process_root_leads_nowhere(inside: Inside) -> None:
    result = await inside.attempt("ls /proc/1/root/ /proc/1/cwd/ 2>&1; ls -d /proc/[0-9]*/root/private 2>&1")
    assert "/private" not in result.stdout.replace("/root/private", "")
    assert "host" not in result.stdout


async def test_only_its_own_processes_are_in_sight(inside: Inside, box: BoxProcess) -> None:
    result = await inside.attempt("ls -d /proc/[0-9]* | wc -l")
    assert 2 <= int(result.stdout) <= 6


@pytest.mark.parametrize("target", ["/etc/x", "/usr/x", "/bin/x", "/x", "/dev/x", "/proc/x", "/run/x", "/var/x"])
async def test_nothing_outside_the_workspace_can_be_written(inside: Inside, target: str) -> None:
    result = await inside.attempt(f"touch {target} 2>&1 && echo WRITTEN")
    assert "WRITTEN" not in result.stdout


@pytest.mark.parametrize(
    "file",
    [
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger",
        "/proc/sys/net/ipv4/ip_forward", "/proc/self/oom_score_adj", "/proc/1/oom_score_adj", "/proc/self/uid_map",
    ],
)  # fmt: skip
async def test_no_setting_of_the_kernel_can_be_changed(inside: Inside, file: str) -> None:
    result = await inside.attempt(f"if [ -e {file} ]; then (echo -17 > {file}) 2>/dev/null && echo WRITTEN; fi; true")
    assert "WRITTEN" not in result.stdout


@pytest.mark.parametrize("file", ["kcore", "kmsg", "kallsyms", "keys", "timer_list", "cmdline", "sched_debug"])
async def test_what_proc_tells_of_the_machine_is_covered(inside: Inside, file: str) -> None:
    result = await inside.attempt(f"head -c 100 /proc/{file} 2>/dev/null; true")
    assert result.stdout == ""


async def test_no_capability_is_left_and_none_can_be_had(inside: Inside, box: BoxProcess) -> None:
    result = await inside.attempt("grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/self/status")
    values = dict(line.split(":\t") for line in result.stdout.splitlines())
    assert {values[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (values["NoNewPrivs"], values["Seccomp"]) == ("1", "2")
    # An engine has loaded its own before ours.
    assert values["Seccomp_filters"] == ("3" if box.has_image else "2")


async def test_a_file_that_sets_the_user_gives_nothing(inside: Inside) -> None:
    result = await inside.attempt(
        "cp /usr/bin/id ./own && chmod 6755 ./own && ./own -u; for each in su mount passwd; do "
        "[ -u /usr/bin/$each ] && echo | timeout 2 /usr/bin/$each -c id 2>/dev/null; done; id -u"
    )
    assert set(result.stdout.split()) == {await inside.user()}
    assert await inside.user() != "0"


@pytest.mark.parametrize(("name", "arguments"), REFUSED_CALLS)
async def test_a_dangerous_system_call_is_refused(inside: Inside, name: str, arguments: str) -> None:
    result = await inside.python(SYSTEM_CALL.format(name=name, arguments=arguments))
    if "number is not known" in result.stdout:
        pytest.skip("the call's number on this architecture is not in the table of the test")
    # The first process may be another user's: then its files cannot even be opened for the attempt.
    closed = "PermissionError" in result.stderr and "/proc/1/ns" in arguments
    assert closed or result.stdout.split()[-1] in ("EPERM", "ENOSYS"), result


async def test_no_new_namespace_of_any_kind(inside: Inside) -> None:
    flags = ["-U", "-m", "-p", "-n", "-i", "-u", "-C", "-T"]
    result = await inside.attempt("\n".join(f"unshare {flag} true 2>/dev/null && echo OPEN {flag}" for flag in flags))
    assert "OPEN" not in result.stdout


async def test_clone_with_a_new_namespace_is_refused_and_threads_work(inside: Inside) -> None:
    result = await inside.python(
        "import ctypes, os, threading\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):\n"
        "    pid = libc.syscall(56 if os.uname().machine == 'x86_64' else 220, flag | 17, 0, 0, 0, 0)\n"
        "    if pid == 0: os._exit(0)\n"
        "    print('OPEN' if pid > 0 else 'refused')\n"
        "thread = threading.Thread(target=lambda: print('thread')); thread.start(); thread.join()\n"
    )
    assert result.stdout.split() == ["refused"] * 7 + ["thread"]


async def test_a_foreign_calling_convention_kills(inside: Inside) -> None:
    source = 'int main(void) { int result; __asm__ volatile("int $0x80" : "=a"(result) : "a"(20)); return 0; }'
    result = await inside.attempt(
        f"command -v gcc >/dev/null || {{ echo no compiler; exit 0; }}\n"
        f"echo '{source}' > old.c && gcc -o old old.c && ./old; echo ended $?"
    )
    if "no compiler" in result.stdout:
        pytest.skip("there is no gcc in /usr of this machine to build the attempt with")
    assert "ended 159" in result.stdout, result


@pytest.mark.parametrize("request_code", [0x5412, 0x1_0000_5412, 0xFFFFFFFF_00005412, 0x541C, 0x7_0000_541C, 0x5423])
async def test_nothing_can_be_typed_into_a_terminal_for_others(inside: Inside, request_code: int) -> None:
    program = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "char = ctypes.create_string_buffer(b'x')\n"
        f"done = libc.syscall(16, 0, ctypes.c_ulong({request_code}), char)\n"
        "print('OPEN' if done == 0 else ctypes.get_errno())"
    )
    result = await inside.python(program, terminal=(24, 80))
    assert result.stdout.split()[-1] == "1", result


@pytest.mark.parametrize(
    ("family", "kind", "protocol"),
    [
        (2, 5, 132),
        (2, 5, 0),
        (10, 2, 136),
        (2, 1, 262),
        (40, 1, 0),
        (17, 3, 3),
        (38, 5, 0),
        (16, 3, 9),
        (16, 3, 16),
        (16, 3, 12),
        (31, 1, 1),
        (29, 3, 1),
        (44, 3, 0),
    ],
    ids=[
        "sctp",
        "seqpacket",
        "udplite",
        "mptcp",
        "vsock",
        "packet",
        "alg",
        "audit",
        "generic",
        "netfilter",
        "bluetooth",
        "can",
        "xdp",
    ],
)
async def test_sockets_of_other_families_cannot_be_made(inside: Inside, family: int, kind: int, protocol: int) -> None:
    result = await inside.python(
        "import socket\n"
        f"try: socket.socket({family}, {kind}, {protocol}); print('OPEN')\n"
        "except OSError as error: print('refused')\n"
        "socket.socket(16, 3, 0).close(); print('route works')"
    )
    assert result.stdout.split("\n")[:2] == ["refused", "route works"]


async def test_the_machines_loopback_and_abstract_sockets_are_out_of_reach(inside: Inside) -> None:
    name = f"\0portway-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(name)
        abstract.listen()
        port = tcp.getsockname()[1]
        result = await inside.python(
            "import socket\n"
            f"for family, address in ((2, ('127.0.0.1', {port})), (1, {name!r})):\n"
            "    try: socket.socket(family, 1).connect(address); print('OPEN')\n"
            "    except OSError: print('refused')\n"
        )
    assert result.stdout.split() == ["refused", "refused"]


async def test_no_address_of_the_network_is_in_reach(inside: Inside) -> None:
    result = await inside.python(
        "import socket\n"
        "for address in ('10.0.0.1', '169.254.169.254', '192.168.0.1', '1.1.1.1'):\n"
        "    try: socket.create_connection((address, 80), 1); print('OPEN')\n"
        "    except OSError as error: print(error.errno)\n"
    )
    assert result.stdout.split() == ["101"] * 4


@pytest.mark.parametrize("device", ["mem", "kvm", "fuse", "loop0", "vda", "sda", "net/tun", "kmsg", "vsock", "port"])
async def test_no_device_of_the_machine_is_there_or_can_be_made(inside: Inside, device: str) -> None:
    result = await inside.attempt(
        f"head -c 1 /dev/{device} 2>/dev/null && echo OPEN; mknod ./device b 7 0 2>/dev/null && echo MADE; true"
    )
    assert result.stdout == ""


async def test_the_two_sessions_see_nothing_of_each_other(channel: PortwayChannel, inside: Inside) -> None:
    other = await new_session(channel)
    await inside.sh("echo theirs > /tmp/mark; echo theirs > /workspace/mark; echo theirs > /dev/shm/mark")
    script = (
        "exec /usr/bin/python3 -I -c \"import socket, time; tcp = socket.create_server(('127.0.0.1', 4711)); "
        "unix = socket.socket(1); unix.bind('\\0mark'); unix.listen(); print('up', flush=True); time.sleep(60)\""
    )
    call = await begin(inside, script)
    await until_said(call, b"up\n")
    try_it = (
        "import socket\n"
        "for family, address in ((2, ('127.0.0.1', 4711)), (1, '\\0mark')):\n"
        "    try: socket.socket(family, 1).connect(address); print('connected')\n"
        "    except OSError: print('refused')\n"
    )
    neighbour, own = await asyncio.gather(other.python(try_it), inside.python(try_it))
    files = await other.attempt("cat /tmp/mark /workspace/mark /dev/shm/mark 2>/dev/null; true")
    call.cancel()
    await other.delete()
    assert neighbour.stdout.split() == ["refused", "refused"]
    # Loopback and /tmp belong to the session: its own commands share them.
    assert own.stdout.split() == ["connected", "connected"]
    assert files.stdout == ""


async def test_each_session_has_a_user_of_its_own_on_the_machine(
    channel: PortwayChannel, inside: Inside, box: BoxProcess
) -> None:
    if box.mode != ROOT:
        pytest.skip("an unprivileged box has only its own user to give; status says what that costs")
    other = await new_session(channel)
    users = []
    for session in (inside, other):
        mark = new_id("mark")
        call = await begin(session, f"sleep 60; : {mark}")
        users.append(users_of(await seen(mark)))
        call.cancel()
    await other.delete()
    assert all(len(one) == 1 for one in users), users
    assert users[0] != users[1]
    assert os.geteuid() not in users[0] | users[1]


async def test_a_core_dump_a_priority_and_locked_memory_are_refused(inside: Inside) -> None:
    result = await inside.attempt(
        "ulimit -c; ulimit -l; nice -n -5 true 2>/dev/null; ulimit -c unlimited 2>/dev/null; ulimit -c"
    )
    core, locked, core_after = result.stdout.split()
    assert (core, core_after) == ("0", "0")
    assert int(locked) <= 64


async def test_the_launchers_own_files_are_not_in_the_sandbox(inside: Inside) -> None:
    result = await inside.attempt("ls -d /stage /private /template /filters /bwrap /empty 2>/dev/null; true")
    assert result.stdout == ""
