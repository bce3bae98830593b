"""A child process of this machine: its own group, bounded buffers, and nothing left of it afterwards."""

import asyncio
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from portway.runtime.harness.failures import NO_PLACE, missing
from portway.runtime.sdk import BoxEnding, BoxExit, BoxOutput, RunFailure

# What waits to be read before the program waits.
_MAX_WAITING = 1024 * 1024
_GRACE_SECONDS = 2.0
_END_SECONDS = 5.0
_POLL_SECONDS = 0.02


class _Pipes(asyncio.SubprocessProtocol):
    """What the event loop tells of the child. Reading stops while much of it waits."""

    def __init__(self) -> None:
        self.transport: asyncio.SubprocessTransport | None = None
        self.events: deque[BoxOutput] = deque()
        self.changed = asyncio.Event()
        self.exited = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.open = {1, 2}
        self._waiting = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.events.append(BoxOutput(data, of_errors=fd == 2))
        self._waiting += len(data)
        if self._waiting > _MAX_WAITING:
            self._each("pause_reading")
        self.changed.set()

    def take(self) -> BoxOutput | None:
        if not self.events:
            return None
        event = self.events.popleft()
        self._waiting -= len(event.data)
        if self._waiting <= _MAX_WAITING // 2:
            self._each("resume_reading")
        return event

    def _each(self, what: str) -> None:
        for fd in self.open:
            pipe: Any = self.transport.get_pipe_transport(fd) if self.transport else None
            if pipe is not None and not pipe.is_closing():
                getattr(pipe, what)()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.open.discard(fd)
        if fd == 0:
            self.writable.set()
        self.changed.set()

    def process_exited(self) -> None:
        self.exited.set()
        self.changed.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()


class MachineProgram:
    """Implements `Program`."""

    def __init__(self, transport: asyncio.SubprocessTransport, pipes: _Pipes, tag: bytes) -> None:
        self._transport = transport
        self._pipes = pipes
        self._tag = tag

    async def output(self) -> AsyncIterator[BoxOutput | BoxExit]:
        pipes = self._pipes
        while True:
            pipes.changed.clear()
            while (event := pipes.take()) is not None:
                yield event
            # What it left behind may hold its pipes open: its own end is what counts, as in a box.
            if pipes.exited.is_set() and not pipes.events:
                break
            await pipes.changed.wait()
        await self.end()
        while pipes.open or pipes.events:
            pipes.changed.clear()
            while (event := pipes.take()) is not None:
                yield event
            if pipes.open:
                await pipes.changed.wait()
        code = self._transport.get_returncode()
        assert code is not None, "it has ended"
        if code < 0:
            yield BoxExit(BoxEnding.KILLED, signal=-code)
        else:
            yield BoxExit(BoxEnding.COMPLETED, code)

    async def write(self, data: bytes) -> None:
        pipe: Any = self._transport.get_pipe_transport(0)
        if pipe is not None and not pipe.is_closing():
            pipe.write(data)
            await self._pipes.writable.wait()

    async def close_input(self) -> None:
        pipe: Any = self._transport.get_pipe_transport(0)
        if pipe is not None:
            pipe.close()

    async def end(self) -> None:
        """Asks the group to end, kills it, and then whatever else it started, until nothing of it is there."""
        pid = self._transport.get_pid()
        if not self._pipes.exited.is_set():
            _signal_group(pid, signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_SECONDS):
                    await self._pipes.exited.wait()
        _signal_group(pid, signal.SIGKILL)
        await self._pipes.exited.wait()
        async with asyncio.timeout(_END_SECONDS):
            while left := await asyncio.to_thread(_tagged, self._tag):
                for one in left:
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(one, signal.SIGKILL)
                await asyncio.sleep(_POLL_SECONDS)

    def close(self) -> None:
        self._transport.close()


@asynccontextmanager
async def start_program(
    argv: Sequence[str], environment: Mapping[str, str], directory: int, tag: str
) -> AsyncIterator[MachineProgram]:
    """`directory` is an open descriptor; `tag` stands in the environment of the child and of what it starts."""
    loop = asyncio.get_running_loop()
    try:
        transport, pipes = await loop.subprocess_exec(
            _Pipes, *argv, env=dict(environment), cwd=f"/proc/self/fd/{directory}", start_new_session=True
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise missing(argv[0], f" ({error.strerror})") from error
    except OSError as error:
        raise RunFailure(NO_PLACE, f"{argv[0]} cannot be started: {error.strerror}") from error
    program = MachineProgram(transport, pipes, tag.encode())
    try:
        yield program
    finally:
        # Also when the run is cancelled meanwhile: what was started is ended first.
        await asyncio.shield(program.end())
        program.close()


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _tagged(tag: bytes) -> Sequence[int]:
    """Processes with the tag in their environment, such as children that left the group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if tag in (entry / "environ").read_bytes() and _alive(entry):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def _alive(entry: Path) -> bool:
    return (entry / "stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
