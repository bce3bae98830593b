"""What every backend does with what runs: bytes that wait on either side, ends of every kind, nothing left behind."""

import asyncio
import hashlib

import pytest

from portway.box.backends.interface import Backend, Stream
from portway.box.backends.types import CommandSpec, Exit, ExitStatus
from tests.contracts.backend.test_backend import ENV, all_of, run, sandbox_of

MEBI = 1024 * 1024


def shell(script: str) -> CommandSpec:
    return CommandSpec(("/bin/sh", "-c", script), env=ENV)


async def test_output_that_is_read_late_is_whole(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        running = await sandbox.start(shell("seq -f %015.0f 1 500000; seq 1 1000 >&2; exit 3"))
        running.close_input()
        # The errors first, although they come last: the output stands still meanwhile, or waits where it is bounded.
        errors = asyncio.create_task(all_of(running, Stream.STDERR))
        digest, size = hashlib.sha256(), 0
        while data := await running.read(Stream.STDOUT, 4099):
            digest.update(data)
            size += len(data)
        expected = hashlib.sha256(b"".join(b"%015d\n" % number for number in range(1, 500_001)))
        assert (size, digest.hexdigest()) == (16 * 500_000, expected.hexdigest())
        assert await errors == b"".join(b"%d\n" % number for number in range(1, 1001))
        assert (await running.wait()).exit_code == 3
        await running.close()


async def test_output_is_still_there_after_the_end(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        running = await sandbox.start(shell("echo said; echo bad >&2"))
        ended = await running.wait()
        assert (ended.status, ended.exit_code) == (ExitStatus.COMPLETED, 0)
        assert await all_of(running, Stream.STDOUT) == b"said\n"
        assert await all_of(running, Stream.STDERR) == b"bad\n"
        assert await running.read(Stream.STDOUT, 10) == b""
        await running.close()


async def test_input_that_is_not_read_waits_and_then_arrives_whole(backend: Backend) -> None:
    data = bytes(range(256)) * 4096 * 4
    async with sandbox_of(backend) as sandbox:
        running = await sandbox.start(shell("echo up; until [ -e go ]; do sleep 0.01; done; sha256sum"))
        assert await running.read(Stream.STDOUT, 3) == b"up\n"
        writing = asyncio.create_task(running.write(data))
        done, _pending = await asyncio.wait([writing], timeout=0.3)
        assert not done
        assert (await run(sandbox, "touch go"))[2].exit_code == 0
        await writing
        running.close_input()
        assert (await all_of(running, Stream.STDOUT)).startswith(hashlib.sha256(data).hexdigest().encode())
        await running.close()


async def test_input_for_a_command_that_closed_it_holds_up_no_end(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        running = await sandbox.start(shell("exec 0<&-; echo closed; until [ -e go ]; do sleep 0.01; done; exit 4"))
        assert await running.read(Stream.STDOUT, 7) == b"closed\n"
        # Dropped, or held until the end where something else inside still has the pipe open.
        writing = asyncio.create_task(running.write(b"x" * 4 * MEBI))
        await run(sandbox, "touch go")
        assert (await running.wait()).exit_code == 4
        await asyncio.wait_for(writing, 60)
        await running.write(b"after the end")
        running.close_input()
        await running.close()


async def test_a_write_that_waits_ends_when_the_command_does(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        running = await sandbox.start(shell("echo up; sleep 600"))
        assert await running.read(Stream.STDOUT, 3) == b"up\n"
        writing = asyncio.create_task(running.write(b"x" * 8 * MEBI))
        done, _pending = await asyncio.wait([writing], timeout=0.2)
        assert not done
        await running.kill()
        ended = await running.wait()
        assert (ended.status, ended.signal) == (ExitStatus.KILLED, 9)
        await asyncio.wait_for(writing, 60)
        await running.close()


@pytest.mark.parametrize(
    "left",
    [
        "(setsid sleep 600 &)",
        "sleep 600 &",
        "(trap '' TERM HUP; exec sleep 600) > /dev/null 2>&1 < /dev/null &",
        "for each in 1 2 3 4 5 6 7 8 9; do (setsid sh -c 'sleep 600 & sleep 600' &) ; done",
    ],
)
async def test_the_end_of_a_command_is_the_end_of_all_that_it_started(backend: Backend, left: str) -> None:
    async with sandbox_of(backend) as sandbox:
        out, _errors, ended = await asyncio.wait_for(run(sandbox, f"{left}\necho done; exit 6"), 60)
        assert (out, ended.exit_code) == (b"done\n", 6)
        found, _errors, _ended = await run(
            sandbox, "for each in /proc/[0-9]*; do tr '\\0' ' ' < $each/cmdline; echo; done | grep -c '^sleep 600'"
        )
        assert found == b"0\n"


async def test_every_exit_code_below_a_signals_is_told(backend: Backend) -> None:
    codes = [0, 1, 2, 63, 100, 126, 127, 128, 200, 255]
    async with sandbox_of(backend) as sandbox:

        async def end_of(code: int) -> Exit:
            return (await run(sandbox, f"exit {code}"))[2]

        ends = await asyncio.gather(*(end_of(code) for code in codes))
    assert [(ended.status, ended.exit_code) for ended in ends] == [(ExitStatus.COMPLETED, code) for code in codes]


async def test_a_command_ended_at_its_very_start_is_never_a_success(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        for _ in range(10):
            running = await sandbox.start(shell("sleep 600"))
            await running.kill()
            ended = await running.wait()
            assert (ended.status, ended.exit_code) == (ExitStatus.KILLED, None)
            await running.close()


async def test_times_are_told(backend: Backend) -> None:
    async with sandbox_of(backend) as sandbox:
        spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 0.2"
        _out, _errors, ended = await run(sandbox, spin)
        assert ended.duration >= 0.2
        assert 0.01 < ended.cpu_seconds < ended.duration + 1
        assert ended.peak_memory is None or ended.peak_memory > 0
