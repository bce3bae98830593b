"""A command that outlives the loss of its stream: its output is kept for who comes back, its input goes on.

Whatever is sent may be lost on the way, so it is kept until it is confirmed, or until newer output needs the room. What
does not fit holds the command up, as a full pipe would; nothing is left out while nobody is there.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from portway.box.backends.interface import NothingRan, RunningCommand, Stream
from portway.box.isolation.terminal import TerminalSize
from portway.box.processes.bell import Bell
from portway.box.processes.input import SharedInput
from portway.box.processes.lingering.window import OutputWindow
from portway.box.processes.run import CommandRunner, RunRequest
from portway.box.processes.types import CommandResult
from portway.rpc.errors import OutOfRange, PortwayError, Reason, Stale, Unavailable

READ_BYTES = 256 * 1024
Offsets = Mapping[Stream, int]


@dataclass(frozen=True, slots=True)
class Lingering:
    """How a command lingers: how long, how many bytes of each output are kept, and whether until they are confirmed."""

    seconds: float
    window_bytes: int
    holds: bool


class LingeringCommand:
    """Lived by one task of its owner (`live`); one `Follower` at a time reads it and writes to it."""

    def __init__(self, request: RunRequest, terms: Lingering) -> None:
        self.request = request
        self._terms = terms
        self._windows = {stream: OutputWindow() for stream in Stream}
        # How far whoever reads has it for sure, and how far it was sent at all.
        self._confirmed = dict.fromkeys(Stream, 0)
        self._sent = dict.fromkeys(Stream, 0)
        self._unkept = dict.fromkeys(Stream, 0)
        self._input = SharedInput()
        self._running: RunningCommand | None = None
        self._follower: Follower | None = None
        self._given_up = False
        self._result: CommandResult | None = None
        self._failure: PortwayError | None = None
        self._bell = Bell()
        self.started: asyncio.Future[CommandResult | None] = asyncio.get_running_loop().create_future()

    @property
    def over(self) -> bool:
        return self._result is not None or self._failure is not None

    @property
    def begun(self) -> bool:
        """Whether it runs, or ran."""
        started = self.started.done() and self.started.exception() is None and self.started.result() is None
        return started and not isinstance(self._failure, NothingRan)

    @property
    def result(self) -> CommandResult:
        """How it ended. Raises what kept its end from being seen."""
        if self._result is None:
            raise self._failure or RuntimeError("the command has not ended")
        return self._result

    @property
    def stdin_taken(self) -> int:
        return self._input.taken

    async def live(self, runner: CommandRunner) -> None:
        """Runs it to its end; `started` tells that it runs, or holds the result of an earlier run."""
        try:
            async with runner.claimed(self.request) as claim:
                if claim.known is not None:
                    self.started.set_result(claim.known)
                    self._result = claim.known
                    return
                async with runner.started(self.request, claim, wants_input=True) as command:
                    self._running = command.running
                    self.started.set_result(None)
                    async with asyncio.TaskGroup() as group:
                        watch = group.create_task(self._give_up_when_alone(command.running, runner))
                        result = command.result(await command.to_end(self._keep))
                        watch.cancel()
                    claim.record(result)
            self._result = result
        except* PortwayError as group:
            self._fail(_first_of(group))
        finally:
            self._running = None
            if not self.over:
                self._fail(Unavailable("the command was ended with the box"))
            self._bell.ring()

    def _fail(self, error: PortwayError) -> None:
        self._failure = error
        if not self.started.done():
            self.started.set_exception(error)
            self.started.exception()  # looked at here, because who waited may have gone away

    async def _give_up_when_alone(self, running: RunningCommand, runner: CommandRunner) -> None:
        """Kills it when nobody was there for as long as it may linger."""
        while True:
            await self._bell.until(lambda: self._follower is None)
            try:
                async with asyncio.timeout(self._terms.seconds):
                    await self._bell.until(lambda: self._follower is not None)
            except TimeoutError:
                runner.numbers.kills.add("caller_gone")
                self._given_up = True
                self._bell.ring()
                return await running.kill()

    async def _keep(self, stream: Stream, data: bytes) -> None:
        size = self._terms.window_bytes // 4
        for begin in range(0, len(data), size):
            await self._keep_piece(stream, data[begin : begin + size])

    async def _keep_piece(self, stream: Stream, data: bytes) -> None:
        """Waits for room, which who reads makes. One that was given up is held up no longer."""
        window = self._windows[stream]
        while (short := window.size + len(data) - self._terms.window_bytes) > 0:
            window.drop_before(min(self._droppable(stream), window.start + short))
            if window.size + len(data) <= self._terms.window_bytes:
                break
            if self._given_up:
                self._unkept[stream] += len(data)
                return
            await self._bell.until(lambda: self._given_up or self._droppable(stream) > window.start)
        if self._unkept[stream]:
            # Behind what was left out nothing can be kept.
            self._unkept[stream] += len(data)
            return
        window.add(data)
        self._bell.ring()

    def _droppable(self, stream: Stream) -> int:
        if self._terms.holds or self._follower is None:
            return self._confirmed[stream]
        return self._sent[stream]

    def follow(self, offsets: Offsets) -> "Follower":
        """Takes it over from whoever had it; what lies before `offsets` counts as taken.

        Raises `OutOfRange` for an offset past the end.
        """
        for stream, offset in offsets.items():
            self._require_reached(stream, offset)
        if self._follower is not None:
            self._follower.superseded.set()
        for stream, offset in offsets.items():
            self._confirmed[stream] = max(self._confirmed[stream], offset)
            self._sent[stream] = offset
        self._follower = Follower(self, offsets)
        self._bell.ring()
        return self._follower

    def _require_reached(self, stream: Stream, offset: int) -> None:
        end = self._windows[stream].end + self._unkept[stream]
        if not 0 <= offset <= end:
            raise OutOfRange(f"{stream} has {end} bytes so far, fewer than the offset {offset}")

    # For its follower:

    def left(self, follower: "Follower") -> None:
        if self._follower is follower:
            self._follower = None
            self._bell.ring()

    def sent(self, stream: Stream, offset: int) -> None:
        self._sent[stream] = max(self._sent[stream], offset)
        self._bell.ring()

    def confirm(self, offsets: Offsets) -> None:
        for stream, offset in offsets.items():
            # Not by what was sent: what is being sent is noted when the connection has it, and may be answered before.
            self._require_reached(stream, offset)
            self._confirmed[stream] = max(self._confirmed[stream], offset)
        self._bell.ring()

    async def more(self, offsets: Offsets) -> "OutputPiece | None":
        """The next piece after `offsets`; `None` at the end."""
        while True:
            for stream, offset in offsets.items():
                if (piece := self._piece(stream, offset)) is not None:
                    return piece
            if self.over:
                return None
            await self._bell.until(lambda: self.over or self._has_more(offsets))

    def _has_more(self, offsets: Offsets) -> bool:
        return any(self._windows[stream].end > offset for stream, offset in offsets.items())

    def _piece(self, stream: Stream, offset: int) -> "OutputPiece | None":
        window = self._windows[stream]
        if offset < window.start:
            return OutputPiece(stream, offset, b"", window.start - offset)
        if data := window.read(offset, READ_BYTES):
            return OutputPiece(stream, offset, data, 0)
        left = window.end + self._unkept[stream] - offset
        return OutputPiece(stream, offset, b"", left) if self.over and left > 0 else None

    async def write(self, data: bytes, offset: int | None, follower: "Follower") -> None:
        if self._running is not None:
            await self._input.write(data, offset, self._running, lambda: self._follower is follower)

    async def close_input(self) -> None:
        if self._running is not None:
            await self._input.close(self._running)

    def resize(self, size: TerminalSize) -> None:
        if self._running is not None:
            self._running.resize(size)

    async def signal(self, number: int) -> None:
        if self._running is not None:
            await self._running.signal(number)


def _first_of(group: BaseExceptionGroup[PortwayError]) -> PortwayError:
    """Commands break in groups of one, for their outputs are read side by side."""
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


class OutputPiece:
    """Output from `offset` on, or, with `missing`, how many bytes from there on are not kept."""

    __slots__ = ("data", "missing", "offset", "stream")

    def __init__(self, stream: Stream, offset: int, data: bytes, missing: int) -> None:
        self.stream = stream
        self.offset = offset
        self.data = data
        self.missing = missing

    @property
    def end(self) -> int:
        return self.offset + len(self.data) + self.missing


class Follower:
    """The one caller that a command has, until it leaves or another one comes."""

    def __init__(self, command: LingeringCommand, offsets: Offsets) -> None:
        self.command = command
        self.superseded = asyncio.Event()
        self._offsets = dict(offsets)

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.command.left(self)

    async def next(self) -> OutputPiece | None:
        return await self.command.more(self._offsets)

    def sent(self, piece: OutputPiece) -> None:
        """A piece was given to the connection, which says nothing about whether it arrives."""
        self._offsets[piece.stream] = piece.end
        if not self.superseded.is_set():
            self.command.sent(piece.stream, piece.end)

    async def write(self, data: bytes, offset: int | None) -> None:
        await self.command.write(data, offset, self)

    async def close_input(self) -> None:
        await self.command.close_input()

    def resize(self, size: TerminalSize) -> None:
        self.command.resize(size)

    async def signal(self, number: int) -> None:
        await self.command.signal(number)

    async def until_superseded(self) -> None:
        """Raises `Stale` when another caller has come."""
        await self.superseded.wait()
        raise Stale("another caller has come back to this command", reason=Reason.STREAM_SUPERSEDED)
