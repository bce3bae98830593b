"""A command in a sandbox: its pipes or terminal, and how it ended."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable

from portway.box.backends.interface import NothingRan, Stream
from portway.box.backends.namespace.zygote_client import Ended
from portway.box.backends.types import CommandSpec, Exit, ExitStatus, TerminalSize
from portway.box.isolation.cgroups import Counted
from portway.box.isolation.descriptors import Descriptor, nonblocking_pipe, open_terminal, resize_terminal, widen_pipe
from portway.rpc.errors import FieldViolation, Unavailable

_STATUS_BYTES = 4096
_HEAD_BYTES = 1024
# What a shell answers for a program that it cannot find, and for one that it cannot execute.
NOT_FOUND, NOT_EXECUTABLE = 127, 126


class CommandPipes:
    """The server's ends of what a command reads and writes."""

    def __init__(self, status: int, stdin: int, stdout: int, stderr: int, *, terminal: bool) -> None:
        self.status = Descriptor(status)
        self.stdin = Descriptor(stdin)
        self.stdout = self.stdin if terminal else Descriptor(stdout)
        self.stderr = Descriptor(stderr)
        self.terminal = terminal
        self._told = b""

    async def come_up(self) -> None:
        """Waits for the first word of bubblewrap: the sandbox is there, or will never be."""
        self._told += await self.status.read(_STATUS_BYTES)

    async def told(self) -> bytes:
        """All that bubblewrap had to say, after its end."""
        return self._told + await self.status.read(_STATUS_BYTES)

    def close(self) -> None:
        for descriptor in (self.status, self.stdin, self.stdout, self.stderr):
            descriptor.close()


def open_pipes(command: CommandSpec, theirs: list[int]) -> CommandPipes:
    """Adds the command's ends to `theirs`: input, output, errors, status. Without room for all, none of ours stays."""
    ours: list[int] = []

    def pipe(*, reader_is_ours: bool) -> int:
        reading, writing = nonblocking_pipe(reader_is_ours=reader_is_ours)
        ours.append(reading if reader_is_ours else writing)
        theirs.append(writing if reader_is_ours else reading)
        return ours[-1]

    try:
        if command.terminal is not None:
            terminal, end = open_terminal(command.terminal)
            ours.append(terminal)
            theirs.append(end)
            theirs += [os.dup(end)]
            theirs += [os.dup(end)]
            return CommandPipes(pipe(reader_is_ours=True), terminal, -1, -1, terminal=True)
        stdin = -1
        if command.wants_input:
            stdin = pipe(reader_is_ours=False)
        else:
            theirs.append(_nothing())
        stdout, stderr = pipe(reader_is_ours=True), pipe(reader_is_ours=True)
        widen_pipe(stdout)
        return CommandPipes(pipe(reader_is_ours=True), stdin, stdout, stderr, terminal=False)
    except OSError:
        for descriptor in ours:
            os.close(descriptor)
        raise


def _nothing() -> int:
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


class RunningProcess:
    """Implements `RunningCommand` over pipes."""

    def __init__(
        self,
        pipes: CommandPipes,
        finished: "asyncio.Task[tuple[Ended, Counted]]",
        send_signal: Callable[[int], None],
    ) -> None:
        self._pipes = pipes
        self._finished = finished
        self._send_signal = send_signal
        self._began = time.monotonic()
        self._head_of_errors = b""
        self._signalled: int | None = None

    async def read(self, stream: Stream, limit: int) -> bytes:
        if stream is Stream.STDOUT:
            return await self._pipes.stdout.read(limit)
        data = await self._pipes.stderr.read(limit)
        if len(self._head_of_errors) < _HEAD_BYTES:
            self._head_of_errors += data[: _HEAD_BYTES - len(self._head_of_errors)]
        return data

    async def write(self, data: bytes) -> None:
        if not await self._pipes.stdin.write(data) and not self._pipes.terminal:
            self._pipes.stdin.close()

    def close_input(self) -> None:
        if not self._pipes.terminal:
            self._pipes.stdin.close()
        elif not self._pipes.stdin.closed:
            with contextlib.suppress(OSError):
                # Behind an unfinished line the first one only ends that.
                os.write(self._pipes.stdin.fileno(), b"\x04\x04")

    def resize(self, size: TerminalSize) -> None:
        if self._pipes.terminal and not self._pipes.stdin.closed:
            resize_terminal(self._pipes.stdin.fileno(), size)

    async def signal(self, number: int) -> None:
        if not self._finished.done():
            self._signalled = number
            self._send_signal(number)

    async def kill(self) -> None:
        await self.signal(signal.SIGKILL)

    async def wait(self) -> Exit:
        ended, counted = await asyncio.shield(self._finished)
        duration = time.monotonic() - self._began
        code = _exit_code(await self._pipes.told())
        cpu = counted.cpu_seconds if counted.cpu_seconds is not None else ended.cpu_seconds
        peak = counted.peak_memory if counted.peak_memory is not None else ended.peak_memory
        status, exit_code, number = await self._meaning(code, ended, counted)
        return Exit(status, exit_code, number, duration, cpu, peak)

    async def _meaning(
        self, code: int | None, ended: Ended, counted: Counted
    ) -> tuple[ExitStatus, int | None, int | None]:
        status = ended.status
        if code is None and not os.WIFSIGNALED(status):
            if self._signalled is not None:
                # It was ended while it was still being set up.
                return ExitStatus.KILLED, None, self._signalled
            return ExitStatus.COMPLETED, await self._why_not_started(), None
        if code is None:
            number, ended_by_signal = os.WTERMSIG(status), True
        elif ended.command_status is not None:
            number, ended_by_signal = os.WTERMSIG(ended.command_status), os.WIFSIGNALED(ended.command_status)
        else:
            # bubblewrap writes 128 + signal, as shells do: an exit code in that range stands for the signal.
            number, ended_by_signal = code - 128, 0 < code - 128 < signal.NSIG
        if counted.out_of_memory and (ended_by_signal or code != 0):
            return ExitStatus.OUT_OF_MEMORY, None, number if ended_by_signal else None
        if ended_by_signal:
            return ExitStatus.KILLED, None, number
        return ExitStatus.COMPLETED, code, None

    async def _why_not_started(self) -> int:
        """The exit code where the program could not be executed. Raises where the sandbox itself did not come up."""
        said = self._head_of_errors or await self._pipes.stderr.read(_HEAD_BYTES)
        text = said.decode(errors="replace").strip().rpartition("bwrap: ")[2]
        if text.startswith("execvp "):
            return NOT_FOUND if text.endswith("No such file or directory") else NOT_EXECUTABLE
        if text.startswith("Can't chdir to"):
            field = "command.working_directory"
            text = "there is no such directory in the session"
            raise NothingRan(f"{field}: {text}", fields=[FieldViolation(field, text)])
        raise Unavailable(f"the sandbox did not start: {text or 'it ended without a word'}")

    async def close(self) -> None:
        """Kills what still runs, and gives everything back."""
        try:
            if not self._finished.done():
                await self.kill()
                with contextlib.suppress(Unavailable):
                    await asyncio.shield(self._finished)
        finally:
            self._pipes.close()


class RunningSearch:
    """Implements `Search`: a launcher that walks files instead of becoming a command."""

    def __init__(self, output: int, finished: "asyncio.Task[tuple[Ended, Counted]]", kill: Callable[[], None]):
        self._output = Descriptor(output)
        self._finished = finished
        self._kill = kill

    async def read(self, limit: int) -> bytes:
        return await self._output.read(limit)

    async def close(self) -> None:
        self._output.close()
        if not self._finished.done():
            self._kill()
            with contextlib.suppress(Unavailable):
                await asyncio.shield(self._finished)


def _exit_code(told: bytes) -> int | None:
    """The code in bubblewrap's status line, which it writes only for a program that was really executed."""
    for line in told.splitlines():
        with contextlib.suppress(ValueError):
            document = json.loads(line)
            if isinstance(document, dict) and isinstance(document.get("exit-code"), int):
                return int(document["exit-code"])
    return None
