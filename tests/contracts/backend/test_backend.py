"""What every backend does, whatever it isolates with."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from portway.box.backends.interface import Backend, NothingRan, RunningCommand, Sandbox, Stream
from portway.box.backends.types import (
    WORKSPACE,
    CommandSpec,
    Exit,
    ExitStatus,
    ListenPlace,
    PortPlace,
    Protocol,
    SandboxSpec,
    SocketPlace,
    TerminalSize,
)
from portway.box.isolation.limits import MEBI, Limits
from portway.rpc.errors import Conflict, InvalidInput, PortwayError
from tests.waiting import until

ENV = (("PATH", "/usr/bin:/bin"),)
LIMITS = Limits(memory_bytes=128 * MEBI, disk_bytes=16 * MEBI, inodes=2048, temporary_bytes=8 * MEBI)


@asynccontextmanager
async def sandbox_of(backend: Backend, key: str = "key", *, persistent: bool = False) -> AsyncIterator[Sandbox]:
    sandbox = await backend.create(SandboxSpec(key, LIMITS, persistent=persistent, env=ENV))
    try:
        yield sandbox
    finally:
        await sandbox.delete()


async def all_of(running: RunningCommand, stream: Stream) -> bytes:
    collected = b""
    while data := await running.read(stream, 65_536):
        collected += data
    return collected


async def run(
    sandbox: Sandbox, script: str, stdin: bytes = b"", directory: str = WORKSPACE
) -> tuple[bytes, bytes, Exit]:
    running = await sandbox.start(CommandSpec(("/bin/sh", "-c", script), directory, ENV))
    try:
        if stdin:
            await running.write(stdin)
        running.close_input()
        out, errors = await asyncio.gather(all_of(running, Stream.STDOUT), all_of(running, Stream.STDERR))
        return out, errors, await running.wait()
    finally:
        await running.close()


async def test_a_probe_really_runs_something_and_tells_what_it_measured(backend: Backend) -> None:
    report = await backend.probe()
    assert (report.name, report.available) == (backend.name, True)
    assert report.reason
    assert len(report.probes) > 5
    assert all(probe.contained for probe in report.probes)


async def test_a_command_has_input_outputs_and_an_end(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        out, errors, ended = await run(sandbox, "cat; echo err >&2; exit 7", b"in\n")
        assert (out, errors) == (b"in\n", b"err\n")
        assert (ended.status, ended.exit_code, ended.signal) == (ExitStatus.COMPLETED, 7, None)
        assert ended.duration > 0


async def test_a_command_is_not_the_servers_user_and_sees_no_process_of_it(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        out, _errors, _ended = await run(sandbox, "id -u; ls -d /proc/[0-9]* | wc -l")
        user, processes = out.split()
        assert user != b"0"
        assert int(processes) < 8


async def test_an_end_by_a_signal_is_told(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        _out, _errors, ended = await run(sandbox, "kill -TERM $$")
        assert (ended.status, ended.exit_code, ended.signal) == (ExitStatus.KILLED, None, signal.SIGTERM)


async def test_a_signal_reaches_a_command_and_a_kill_ends_it_with_all_it_started(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        script = "trap 'echo caught' USR1; (trap '' TERM; sleep 60) & echo up; while :; do sleep 0.05; done"
        running = await sandbox.start(CommandSpec(("/bin/sh", "-c", script), env=ENV))
        assert await running.read(Stream.STDOUT, 100) == b"up\n"
        await running.signal(signal.SIGUSR1)
        assert await running.read(Stream.STDOUT, 100) == b"caught\n"
        await running.kill()
        ended = await running.wait()
        assert (ended.status, ended.signal) == (ExitStatus.KILLED, signal.SIGKILL)
        assert await all_of(running, Stream.STDOUT) == b""
        await running.close()


async def test_closing_a_command_ends_it(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        running = await sandbox.start(CommandSpec(("/bin/sh", "-c", "sleep 600"), env=ENV))
        await running.close()
        assert (await running.wait()).status is ExitStatus.KILLED


async def test_a_terminal_is_one(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        command = CommandSpec(
            ("/bin/sh", "-c", "test -t 0 && stty size; read x"), env=ENV, terminal=TerminalSize(33, 77)
        )
        running = await sandbox.start(command)
        assert await running.read(Stream.STDOUT, 100) == b"33 77\r\n"
        assert await running.read(Stream.STDERR, 100) == b""
        running.resize(TerminalSize(10, 20))
        await running.write(b"\x03")
        assert (await running.wait()).signal == signal.SIGINT
        await running.close()


async def test_what_is_not_there_is_told(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        running = await sandbox.start(CommandSpec(("no-such-program",), env=ENV))
        assert b"no-such-program" in await all_of(running, Stream.STDERR)
        assert (await running.wait()).exit_code == 127
        await running.close()
        with pytest.raises(NothingRan):
            await run(sandbox, "true", directory="/workspace/missing")


async def test_a_command_that_nobody_reads_stands_still(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        running = await sandbox.start(CommandSpec(("/bin/sh", "-c", "yes > /dev/stdout"), env=ENV))
        assert await running.read(Stream.STDOUT, 10) == b"y\ny\ny\ny\ny\n"
        await running.close()


async def test_commands_run_side_by_side_and_share_the_workspace(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        scripts = [f"echo {number} > /workspace/{number}; sleep 0.1; cat /workspace/{number}" for number in range(6)]
        results = await asyncio.gather(*(run(sandbox, script) for script in scripts))
        assert [out for out, _errors, _ended in results] == [b"%d\n" % number for number in range(6)]


async def test_files_are_reached_from_outside(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        await run(sandbox, "echo hello > /workspace/file; mkdir /tmp/dir")
        access = sandbox.files()
        targets = [mount.target for mount in access.mounts]
        assert targets[:2] == ["/workspace", "/tmp"]
        assert os.stat("file", dir_fd=access.mounts[0].directory).st_size == 6
        assert os.listdir(f"/proc/self/fd/{access.mounts[1].directory}") == ["dir"]


async def test_a_search_runs_inside(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        await run(sandbox, "mkdir a; touch a/one.py a/two.txt")
        request = {"kind": "glob", "start": ".", "pattern": "**/*.py", "limit": 10}
        search = await sandbox.search(json.dumps(request).encode(), 0)
        said = b""
        while data := await search.read(65_536):
            said += data
        await search.close()
        lines = [json.loads(line) for line in said.splitlines()]
        assert [line.get("path") for line in lines] == ["a/one.py", None]
        assert lines[-1] == {"end": True, "truncated": False}


@asynccontextmanager
async def listening(sandbox: Sandbox, place: ListenPlace) -> AsyncIterator[socket.socket]:
    with socket.socket(fileno=await sandbox.listen(place)) as listener:
        assert not os.get_blocking(listener.fileno())
        listener.setblocking(False)
        yield listener


async def answer_once(listener: socket.socket) -> bytes:
    """Takes one connection, answers, and returns what it said."""
    loop = asyncio.get_running_loop()
    connection, _address = await loop.sock_accept(listener)
    with connection:
        said = await loop.sock_recv(connection, 100)
        await loop.sock_sendall(connection, b"heard\n")
        return said


async def test_a_port_of_its_loopback_is_answered_from_outside_and_is_its_own(backend: Backend) -> None:
    ask = "exec 3<>/dev/tcp/127.0.0.1/{0} && echo $0 >&3 && cat <&3"
    async with sandbox_of(backend) as sandbox, sandbox_of(backend, "other") as other:
        async with listening(sandbox, PortPlace(0)) as one, listening(other, PortPlace(one.getsockname()[1])) as two:
            port = one.getsockname()[1]
            for each, listener, name in ((sandbox, one, "one"), (other, two, "two")):
                answering = asyncio.create_task(answer_once(listener))
                out, _errors, _ended = await run(each, f"bash -c '{ask.format(port)}' {name}")
                assert (out, await answering) == (b"heard\n", name.encode() + b"\n")
            with pytest.raises(Conflict):
                await sandbox.listen(PortPlace(port))
        out, _errors, ended = await run(sandbox, f"bash -c '{ask.format(port)}' closed")
        assert (out, ended.exit_code) == (b"", 1)


async def test_a_datagram_port_is_answered_from_outside(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox, listening(sandbox, PortPlace(53, Protocol.UDP)) as port:
        asked = asyncio.create_task(
            run(sandbox, "bash -c 'exec 3<>/dev/udp/127.0.0.1/53; echo ask >&3; head -c 2 <&3'")
        )
        said, sender = await asyncio.get_running_loop().sock_recvfrom(port, 100)
        await asyncio.get_running_loop().sock_sendto(port, b"ok", sender)
        assert (said, (await asked)[0]) == (b"ask\n", b"ok")


async def test_a_socket_of_the_box_can_be_used_inside_and_neither_removed_nor_replaced(backend: Backend) -> None:
    ask = (
        'python3 -c \'import socket; s = socket.socket(socket.AF_UNIX); s.connect("/run/portway/it.sock"); '
        's.sendall(b"asked"); print(s.recv(9).decode(), end="")\''
    )
    tampering = (
        "rm -f /run/portway/it.sock; mv /run/portway /run/x; mv /run /x; touch /run/portway/x; rmdir /run/portway; "
        "chmod 0 /run/portway/it.sock; ls /run/portway"
    )
    for read_only_root in (True, False):
        spec = SandboxSpec("key", LIMITS, env=ENV, read_only_root=read_only_root)
        sandbox = await backend.create(spec)
        try:
            # A second one takes the place of the first.
            os.close(await sandbox.listen(SocketPlace("it.sock")))
            async with listening(sandbox, SocketPlace("it.sock")) as listener:
                assert (await run(sandbox, f"({tampering}) 2>/dev/null"))[0] == b"it.sock\n"
                answering = asyncio.create_task(answer_once(listener))
                assert (await run(sandbox, ask))[0] == b"heard\n"
                assert await answering == b"asked"
            for name in ("../x", "", ".x", "a/b", "x" * 65):
                with pytest.raises(InvalidInput):
                    await sandbox.listen(SocketPlace(name))
        finally:
            await sandbox.delete()


async def test_usage_is_told_as_far_as_it_is_known(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        await run(sandbox, "head -c 2000000 /dev/urandom > /workspace/file")
        usage = await sandbox.usage()
        assert usage.disk_bytes is None or usage.disk_bytes >= 2_000_000
        assert usage.memory_bytes is None or usage.memory_bytes > 0


async def test_a_deleted_sandbox_is_gone_and_its_key_free(backend: Backend) -> None:
    sandbox = await backend.create(SandboxSpec("key", LIMITS, env=ENV))
    await run(sandbox, "echo old > /workspace/old")
    running = await sandbox.start(CommandSpec(("/bin/sh", "-c", "sleep 600"), env=ENV))
    assert await sandbox.delete() >= 1
    assert (await running.wait()).status is ExitStatus.KILLED
    await running.close()
    with pytest.raises(PortwayError):
        await run(sandbox, "true")
    async with sandbox_of(backend) as again:
        assert (await run(again, "ls /workspace"))[0] == b""


async def test_a_kept_workspace_comes_back_and_a_discarded_one_does_not(backend: Backend) -> None:
    for discard in (False, True):
        sandbox = await backend.create(SandboxSpec("kept", LIMITS, persistent=True, env=ENV))
        out, _errors, _ended = await run(sandbox, "cat /workspace/mark 2>/dev/null; echo mark > /workspace/mark")
        assert out == (b"mark\n" if discard else b"")
        await sandbox.delete(keep_workspace=True)
    await backend.discard("kept")
    async with sandbox_of(backend, "kept", persistent=True) as sandbox:
        assert (await run(sandbox, "ls /workspace"))[0] == b""


async def test_a_cleanup_removes_what_is_not_to_be_kept(backend: Backend) -> None:
    for key in ("one", "two"):
        sandbox = await backend.create(SandboxSpec(key, LIMITS, persistent=True, env=ENV))
        await run(sandbox, "echo mark > /workspace/mark")
        await sandbox.delete(keep_workspace=True)
    assert await backend.cleanup(frozenset({"two"})) >= 1
    for key, left in (("one", b""), ("two", b"mark\n")):
        async with sandbox_of(backend, key, persistent=True) as sandbox:
            assert (await run(sandbox, "cat /workspace/mark 2>/dev/null"))[0] == left


async def test_many_sandboxes_at_once_have_nothing_in_common(backend: Backend) -> None:
    sandboxes = await asyncio.gather(*(backend.create(SandboxSpec(f"k{n}", LIMITS, env=ENV)) for n in range(8)))
    await asyncio.gather(*(run(one, f"echo {n} > /workspace/x; echo {n} > /tmp/x") for n, one in enumerate(sandboxes)))
    results = await asyncio.gather(
        *(run(one, "cat /workspace/x /tmp/x; ls /workspace /tmp | wc -l") for one in sandboxes)
    )
    for number, (out, _errors, _ended) in enumerate(results):
        assert out.split()[:2] == [b"%d" % number] * 2
    await asyncio.gather(*(one.delete() for one in sandboxes))


async def test_a_backend_that_was_closed_leaves_no_descriptor_behind(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        await run(sandbox, "true")
    await backend.cleanup(frozenset())
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        async with sandbox_of(backend, f"k{number}") as sandbox:
            await asyncio.gather(*(run(sandbox, "echo x") for _ in range(5)))
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before)


async def test_what_a_sandbox_holds_is_found_by_looking_and_is_nothing_after_its_end(backend: Backend) -> None:
    sandbox = await backend.create(SandboxSpec("holds", LIMITS, env=ENV))
    held = await backend.held("holds")
    assert held and all(thing.kind and thing.name for thing in held)
    assert await backend.held("nobody") == ()
    await sandbox.delete(keep_workspace=True)
    kept = await backend.held("holds")
    assert {thing.kind for thing in kept} <= {"workspace"}, kept
    await backend.discard("holds")
    assert await backend.held("holds") == ()
