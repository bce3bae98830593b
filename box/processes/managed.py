"""A process that outlives the call which started it: its output kept, its input shared, started again by policy."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import structlog

from portway.box.backends.interface import RunningCommand, Stream
from portway.box.backends.types import Exit, ExitStatus
from portway.box.isolation.terminal import TerminalSize
from portway.box.processes.capture import RingBuffer
from portway.box.processes.input import SharedInput
from portway.box.processes.records import ProcessRecord
from portway.box.processes.types import CommandRequest, Process, ProcessState, RestartPolicy
from portway.box.sessions.types import SessionRef
from portway.rpc.errors import OutOfRange, PortwayError, Unavailable, WrongState

REPLAY_BYTES = 64 * 1024
READ_BYTES = 64 * 1024
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, LONG_LIFE_SECONDS = 0.5, 60.0, 30.0
LIVE = (ProcessState.RUNNING, ProcessState.RESTARTING, ProcessState.STOPPING)
Start = Callable[[], AbstractAsyncContextManager[RunningCommand]]


class ManagedProcess:
    """Run by one task of its owner (`run`); everything else talks to it from other tasks of the same loop."""

    def __init__(
        self,
        process_id: str,
        session: SessionRef,
        command: CommandRequest,
        policy: RestartPolicy,
        start: Start,
        *,
        hold_output: bool = False,
    ) -> None:
        self.process_id = process_id
        self.session = session
        self.command = command
        self.policy = policy
        self._start = start
        self._state = ProcessState.RUNNING
        self._start_time = time.time()
        self.end_time: float | None = None
        self.abandoned = False
        self._exit: Exit | None = None
        self._restarts = 0
        self._attached: set[Attachment] = set()
        # Whether what nobody has seen yet is kept by holding it up; over with the first attachment.
        self._hold_output = hold_output
        self._unseen = hold_output
        self._room = asyncio.Event()
        self._rings = {stream: RingBuffer(REPLAY_BYTES) for stream in Stream}
        self._input = SharedInput()
        self._running: RunningCommand | None = None
        self._stopping = asyncio.Event()
        self._changed = asyncio.Condition()
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    def lost(cls, session: SessionRef, record: ProcessRecord, start: Start) -> "ManagedProcess":
        """One of an earlier life of the box, whose end nobody saw."""
        process = cls(record.process_id, session, record.command, record.policy, start, hold_output=record.hold_output)
        process._start_time = record.start_time
        process._restarts = record.restart_count
        process._state = ProcessState.LOST
        process.end_time = time.time()
        process.started.set_result(None)
        return process

    @property
    def record(self) -> ProcessRecord:
        return ProcessRecord(
            self.process_id, self.command, self.policy, self._start_time, self._restarts, self._hold_output
        )

    async def run_again(self) -> None:
        """A lost process that its policy starts again."""
        self._restarts += 1
        self.end_time = None
        await self._change(ProcessState.RUNNING)
        await self.run()

    @property
    def alive(self) -> bool:
        return self._state in LIVE

    def describe(self) -> Process:
        return Process(
            process_id=self.process_id,
            session=self.session,
            command=self.command,
            state=self._state,
            start_time=self._start_time,
            exit=self._exit,
            restart_count=self._restarts,
            stdout_bytes=self._rings[Stream.STDOUT].end,
            stderr_bytes=self._rings[Stream.STDERR].end,
            attached_count=len(self._attached),
            stdin_taken=self._input.taken,
        )

    async def run(self) -> None:
        """Its whole life. Ends when it ended for good."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            state = await self._run_once()
            if not self._starts_again(state):
                return await self._end(state)
            if time.monotonic() - began > LONG_LIFE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            await self._change(ProcessState.RESTARTING)
            try:
                await asyncio.wait_for(self._stopping.wait(), pause)
            except TimeoutError:
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                self._restarts += 1
                await self._change(ProcessState.RUNNING)
            else:
                return await self._end(state)

    async def _run_once(self) -> ProcessState:
        try:
            async with self._start() as running:
                self._running = running
                if not self.started.done():
                    self.started.set_result(None)
                async with asyncio.TaskGroup() as group:
                    for stream in Stream:
                        group.create_task(self._pump(running, stream))
                self._exit = await running.wait()
                return ProcessState.EXITED
        except PortwayError as error:
            return self._lost(error)
        except ExceptionGroup as group:
            # Only reading its output breaks in a group, with the launcher process that it ran under.
            return self._lost(Unavailable(f"its output broke off: {group.exceptions[0]}"))
        finally:
            self._running = None

    def _lost(self, error: PortwayError) -> ProcessState:
        if not self.started.done():
            self.started.set_exception(error)
            self.started.exception()  # looked at here, because the caller that waited may have gone away
        structlog.get_logger().warning("the end of a process was not seen", process=self.process_id, error=str(error))
        return ProcessState.LOST

    def _starts_again(self, state: ProcessState) -> bool:
        if self._stopping.is_set() or not self.started.done() or self.started.exception() is not None:
            return False
        well = state is ProcessState.EXITED and self._exit is not None and self._exit.exit_code == 0
        return self.policy is RestartPolicy.ALWAYS or (self.policy is RestartPolicy.ON_FAILURE and not well)

    async def _pump(self, running: RunningCommand, stream: Stream) -> None:
        while data := await running.read(stream, READ_BYTES):
            while data:
                if (room := self._room_for(stream)) <= 0:
                    self._room.clear()
                    await self._room.wait()
                    continue
                self._rings[stream].add(data[:room])
                data = data[room:]
                await self._tell()

    def _room_for(self, stream: Stream) -> int:
        """How much more takes nothing from an attachment that it wants to see. Nobody holds up an end."""
        if self._stopping.is_set():
            return READ_BYTES
        wanted = [one.offset(stream) for one in self._attached if one.holds]
        if self._unseen:
            wanted.append(0)
        return min(wanted) + REPLAY_BYTES - self._rings[stream].end if wanted else READ_BYTES

    async def _change(self, state: ProcessState) -> None:
        self._state = state
        await self._tell()

    async def _end(self, state: ProcessState) -> None:
        self.end_time = time.time()
        await self._change(state)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def stop(self, grace: float) -> None:
        """Asks it to end, waits, then kills its whole tree. Returns when it has ended."""
        if not self.alive:
            return
        self._stopping.set()
        self._room.set()
        if self._running is not None:
            await self._change(ProcessState.STOPPING)
            await self._ask_to_end(15)
        try:
            await asyncio.wait_for(self.ended(), grace)
        except TimeoutError:
            await self._kill()
            await self.ended()

    def abandon(self) -> None:
        """Its session is being deleted, or the box ends, which ends it: it is not started again."""
        self.abandoned = True
        self._stopping.set()
        self._room.set()

    async def _ask_to_end(self, number: int) -> None:
        if self._running is not None:
            await self._running.signal(number)

    async def _kill(self) -> None:
        if self._running is not None:
            await self._running.kill()

    async def ended(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: not self.alive)

    async def signal(self, number: int) -> None:
        await self._ask_to_end(number)

    def resize(self, size: TerminalSize) -> None:
        if self._running is not None:
            self._running.resize(size)

    async def write(self, data: bytes, offset: int | None) -> None:
        """Gives it input. With `offset`, what it already took is left out, so that a broken stream can be resumed."""
        if self._running is None:
            raise WrongState(f"process {self.process_id!r} does not run now and takes no input")
        await self._input.write(data, offset, self._running)

    async def close_input(self) -> None:
        if self._running is not None:
            await self._input.close(self._running)

    def attach(self, stdout_offset: int, stderr_offset: int, *, hold: bool = False) -> "Attachment":
        """Raises `OutOfRange` for an offset past the end."""
        offsets = {Stream.STDOUT: stdout_offset, Stream.STDERR: stderr_offset}
        for stream, offset in offsets.items():
            end = self._rings[stream].end
            if offset > end:
                raise OutOfRange(f"{stream} has {end} bytes so far, fewer than the offset {offset}")
            offsets[stream] = end if offset < 0 else offset
        return Attachment(self, offsets, hold)

    # For attachments, which read at their own pace:

    def joined(self, attachment: "Attachment") -> None:
        self._attached.add(attachment)
        self._unseen = False
        self._room.set()

    def left(self, attachment: "Attachment") -> None:
        self._attached.discard(attachment)
        self._room.set()

    def taken(self) -> None:
        """An attachment has read on."""
        self._room.set()

    def ring(self, stream: Stream) -> RingBuffer:
        return self._rings[stream]

    async def wait_for_more(self, offsets: dict[Stream, int]) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: not self.alive or any(self._rings[stream].end > offset for stream, offset in offsets.items())
            )

    def final_exit(self) -> Exit | None:
        """How it ended for good; a lost one is told as killed, because nobody saw more."""
        if self._exit is None or self._state is ProcessState.LOST:
            return Exit(ExitStatus.KILLED, None, None, 0.0, 0.0, None)
        return self._exit


class Attachment:
    """One reader of a process. Unless it holds the process up, what it misses is told as a gap."""

    def __init__(self, process: ManagedProcess, offsets: dict[Stream, int], holds: bool) -> None:
        self._process = process
        self._offsets = offsets
        self.holds = holds

    def __enter__(self) -> "Attachment":
        self._process.joined(self)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.left(self)

    def offset(self, stream: Stream) -> int:
        """How far it has read."""
        return self._offsets[stream]

    async def next(self) -> "list[Piece] | None":
        """What came since; `None` when the process ended and everything was read."""
        while True:
            pieces = [piece for stream in Stream for piece in self._take(stream)]
            if pieces:
                return pieces
            if not self._process.alive:
                return None
            await self._process.wait_for_more(self._offsets)

    def _take(self, stream: Stream) -> "list[Piece]":
        ring, offset = self._process.ring(stream), self._offsets[stream]
        pieces = []
        if offset < ring.start:
            pieces.append(Piece(stream, offset, b"", ring.start - offset))
            offset = ring.start
        data = ring.read(offset, READ_BYTES)
        if data:
            pieces.append(Piece(stream, offset, data, 0))
        self._offsets[stream] = offset + len(data)
        if self.holds:
            self._process.taken()
        return pieces


class Piece:
    """Output from `offset` on, or, with `missing`, how many bytes from there on are no longer kept."""

    __slots__ = ("data", "missing", "offset", "stream")

    def __init__(self, stream: Stream, offset: int, data: bytes, missing: int) -> None:
        self.stream = stream
        self.offset = offset
        self.data = data
        self.missing = missing
