"""Running commands to their end: input in, output out, killed when their time is over."""

import asyncio
import dataclasses
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from portway.box.backends.interface import NothingRan, RunningCommand, Stream
from portway.box.backends.types import Exit, ExitStatus
from portway.box.files.recorder import OutputRecorder, record_to
from portway.box.files.session_files import FileThreads
from portway.box.processes.capture import HeadAndTail
from portway.box.processes.command import timeout_of, to_spec
from portway.box.processes.effects import Claim, EffectLedger, digest_of, of_another
from portway.box.processes.numbers import CommandNumbers
from portway.box.processes.types import CommandRequest, CommandResult, Output
from portway.box.sessions.directory import SessionDirectory
from portway.box.sessions.types import SessionRef
from portway.rpc.errors import PortwayError
from portway.rpc.identity import Role

DEFAULT_OUTPUT_LIMIT = 4000
READ_BYTES = 256 * 1024
Sink = Callable[[Stream, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A command, where to run it, under which request id and for which role. `output_file`: the whole output there."""

    ref: SessionRef
    command: CommandRequest
    request_id: str = ""
    stdin: bytes = b""
    output_file: str = ""
    output_limit: int = 0
    reconcile: bool = False
    role: Role | None = None


class StartedCommand:
    """A command under way, with the time that it has."""

    def __init__(
        self, running: RunningCommand, timeout: float, recorder: OutputRecorder | None, numbers: CommandNumbers
    ) -> None:
        self.running = running
        self._numbers = numbers
        self._timeout = timeout
        self._recorder = recorder
        self.kept = {Stream.STDOUT: HeadAndTail(64 * 1024), Stream.STDERR: HeadAndTail(64 * 1024)}
        self.timed_out = False

    async def to_end(self, sink: Sink) -> Exit:
        """Gives all output to `sink`, which holds the command up while it takes its time. Returns the end."""
        async with asyncio.TaskGroup() as group:
            timer = group.create_task(self._limit_time())
            pumps = [group.create_task(self._pump(stream, sink)) for stream in Stream]
            await asyncio.wait(pumps)
            if self._recorder is not None:
                await self._recorder.finish()
            ended = await self.running.wait()
            timer.cancel()
        return self._told(ended)

    async def killed(self) -> Exit:
        """Its end where nobody waits for it any more."""
        await self.running.kill()
        ended = await self.running.wait()
        return dataclasses.replace(ended, status=ExitStatus.KILLED, exit_code=None, signal=int(signal.SIGKILL))

    def result(self, ended: Exit) -> CommandResult:
        out, errors = self.kept[Stream.STDOUT], self.kept[Stream.STDERR]
        output = Output(out.content(), errors.content(), out.left_out, errors.left_out)
        return CommandResult(output, ended, file_error=self._recorder.failure if self._recorder is not None else "")

    async def _limit_time(self) -> None:
        await asyncio.sleep(self._timeout)
        self.timed_out = True
        await self.running.kill()

    async def _pump(self, stream: Stream, sink: Sink) -> None:
        while data := await self.running.read(stream, READ_BYTES):
            self._numbers.output_bytes += len(data)
            self.kept[stream].add(data)
            if self._recorder is not None:
                await self._recorder.add(data)
            await sink(stream, data)

    def _told(self, ended: Exit) -> Exit:
        if not self.timed_out or ended.status is ExitStatus.COMPLETED:
            return ended
        return dataclasses.replace(ended, status=ExitStatus.TIMED_OUT, exit_code=None, signal=int(signal.SIGKILL))


class CommandRunner:
    """Runs commands in sessions."""

    def __init__(self, sessions: SessionDirectory, effects: EffectLedger, threads: FileThreads) -> None:
        self._sessions = sessions
        self._effects = effects
        self._threads = threads
        self.numbers = CommandNumbers()

    @asynccontextmanager
    async def claimed(self, request: RunRequest) -> AsyncIterator[Claim]:
        """The right to run it once, or what is known of its earlier run."""
        self._sessions.require_open()
        if not request.reconcile:
            self._sessions.get(request.ref)
        digest = digest_of(request.command, request.stdin) if request.request_id else ""
        role, reconcile = _named(request.role), request.reconcile
        async with self._effects.claim(request.ref, request.request_id, digest, role, reconcile=reconcile) as claim:
            yield claim

    def result_of(self, ref: SessionRef, request_id: str, role: Role | None) -> CommandResult:
        """How a command of some time ago ended. Raises `WrongState` where that is not known, or not to this role."""
        return self._effects.result_of(ref, request_id, _named(role))

    def require_own(self, ref: SessionRef, request_id: str, role: Role | None) -> None:
        """Raises `Conflict` where another role began a command under this request id."""
        if self._effects.is_of_another(ref, request_id, _named(role)):
            raise of_another(request_id)

    @asynccontextmanager
    async def started(self, request: RunRequest, claim: Claim, *, wants_input: bool) -> AsyncIterator[StartedCommand]:
        """Starts it; when the block is left, nothing of it runs any more and its end is recorded under the claim."""
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(self._sessions.get(request.ref).running())
            spec = to_spec(request.command, session.spec, wants_input=wants_input)
            timeout = timeout_of(request.command, session.spec)
            recorder = await stack.enter_async_context(record_to(self._threads, session, request.output_file))
            running = await session.start(spec)
            claim.began = True
            stack.push_async_callback(running.close)
            self.numbers.started += 1
            command = StartedCommand(running, timeout, recorder, self.numbers)
            try:
                yield command
            except BaseException:
                self.numbers.kills.add("caller_gone")
                # The caller went away. What it began is known to be over; where even that is not, nothing is recorded.
                try:
                    claim.record(command.result(await command.killed()))
                except NothingRan:
                    claim.began = False
                except PortwayError:
                    structlog.get_logger().warning("the end of a command was not seen", session=str(request.ref))
                raise
            if command.timed_out:
                self.numbers.kills.add("timeout")

    async def once(self, request: RunRequest) -> CommandResult:
        """Runs it to its end, or answers with what its earlier run gave."""
        async with self.claimed(request) as claim:
            if claim.known is not None:
                return claim.known
            limit = request.output_limit or DEFAULT_OUTPUT_LIMIT
            # A terminal has no end of its own: somebody has to type it.
            feeds = bool(request.stdin) or request.command.terminal is not None
            async with self.started(request, claim, wants_input=feeds) as command:
                command.kept = {stream: HeadAndTail(limit) for stream in Stream}
                async with asyncio.TaskGroup() as group:
                    if feeds:
                        group.create_task(_feed(command.running, request.stdin))
                    ended = await command.to_end(_drop)
                result = command.result(ended)
                claim.record(result)
                return result


def _named(role: Role | None) -> str:
    return "" if role is None else role.name


async def _feed(running: RunningCommand, data: bytes) -> None:
    await running.write(data)
    running.close_input()


async def _drop(_stream: Stream, _data: bytes) -> None:
    """What is kept was kept before."""
