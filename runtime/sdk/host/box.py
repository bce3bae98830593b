"""`host.box`: programs in the run's box session. Needs the permissions `box.*`."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum

from portway.rpc.errors import Unavailable
from portway.runtime.sdk.session.calls import Calls, Conversation
from portway.v1 import process_pb2
from portway.v1 import run_pull_pb2 as pb

# Half of what may be under way on a run's stream, so that two programs can be fed at once.
INPUT_BYTES = 512 * 1024
PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class BoxCommand:
    """A program and its arguments, without a shell. `timeout` is in seconds, at most the profile's; 0 is its default,
    or with `longest_time` the profile's most: for a program that may wait for people.

    `environment` is added to the session's; `working_directory` is absolute inside, empty for the session's own.
    """

    argv: Sequence[str]
    working_directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 0.0
    longest_time: bool = False


class BoxEnding(IntEnum):
    UNSPECIFIED = process_pb2.EXIT_STATUS_UNSPECIFIED
    COMPLETED = process_pb2.EXIT_STATUS_COMPLETED
    TIMED_OUT = process_pb2.EXIT_STATUS_TIMED_OUT
    KILLED = process_pb2.EXIT_STATUS_KILLED
    OUT_OF_MEMORY = process_pb2.EXIT_STATUS_OUT_OF_MEMORY


@dataclass(frozen=True, slots=True)
class BoxOutput:
    """Bytes of a program's output, or of its errors."""

    data: bytes
    of_errors: bool = False


@dataclass(frozen=True, slots=True)
class BoxExit:
    """How a program ended. `code` is set where it ended by itself, `signal` where one ended it."""

    ending: BoxEnding
    code: int | None = None
    signal: int | None = None


@dataclass(frozen=True, slots=True)
class ModelsPlace:
    """Where programs of the session find the run's models; `host.run_token` opens it."""

    path: str
    port: int
    openai_base_url: str
    anthropic_base_url: str


@dataclass(frozen=True, slots=True)
class BridgePlace:
    """Where programs of the session find the run's MCP bridge; `host.bridge_token` opens it."""

    path: str
    port: int
    url: str


class BoxProgram:
    """A program under way. Leaving the block that it was started with ends it, with everything that it started."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._untaken = 0
        self._taken = asyncio.Condition()
        self._over = False

    async def output(self) -> AsyncIterator[BoxOutput | BoxExit]:
        """What it says, then its `BoxExit`, once and last. Raises `Unavailable` where its end is not known."""
        try:
            async for answer in self._conversation.answers():
                if answer.WhichOneof("kind") == "taken_bytes":
                    await self._note_taken(answer.taken_bytes)
                    continue
                event = _event_of(answer.exec)
                if event is not None:
                    yield event
                if isinstance(event, BoxExit):
                    return
        finally:
            self._over = True
            await self._note_taken(0)
        raise Unavailable("the box did not say how the program ended")

    async def write(self, data: bytes) -> None:
        """Bytes for its input; waits while much is under way, so `output` must be read. Dropped after its end."""
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            async with self._taken:
                await self._taken.wait_for(lambda: self._over or self._untaken < INPUT_BYTES)
                self._untaken += len(piece)
            if not self._over:
                await self._send(process_pb2.ExecRequest(stdin=piece))

    async def close_input(self) -> None:
        await self._send(process_pb2.ExecRequest(close_stdin=process_pb2.CloseStdin()))

    async def signal(self, number: int) -> None:
        """To its process group."""
        await self._send(process_pb2.ExecRequest(signal=number))

    async def _send(self, frame: process_pb2.ExecRequest) -> None:
        await self._conversation.send(pb.RunBoxRequest(exec=frame), more=True)

    async def _note_taken(self, count: int) -> None:
        async with self._taken:
            self._untaken -= count
            self._taken.notify_all()


class RunBox:
    """The run's session. There is one where `ctx.resources.box` says so."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @asynccontextmanager
    async def start(self, command: BoxCommand) -> AsyncIterator[BoxProgram]:
        """A program, while the block runs. Read its `output` to the end, or leave the block to end it."""
        start = process_pb2.ExecStart(session_id="own", command=_message_of(command))
        async with self._calls.converse("run_box") as conversation:
            await conversation.send(pb.RunBoxRequest(exec=process_pb2.ExecRequest(start=start)), more=True)
            yield BoxProgram(conversation)

    @asynccontextmanager
    async def serve_models(self, name: str = "", port: int = 0) -> AsyncIterator[ModelsPlace]:
        """The run's models as a socket in the session, while the block runs. Raises `Conflict` (name, port)."""
        async with self._calls.converse("run_box") as conversation:
            await conversation.send(pb.RunBoxRequest(serve_models=pb.ServeModels(name=name, port=port)), more=False)
            async for answer in conversation.answers():
                place = answer.models_socket
                yield ModelsPlace(place.path, place.port, place.openai_base_url, place.anthropic_base_url)
                return
            raise Unavailable("the host did not say where the models are")

    @asynccontextmanager
    async def serve_bridge(self, name: str = "", port: int = 0) -> AsyncIterator[BridgePlace]:
        """The run's MCP bridge as a socket in the session, while the block runs. Raises `Conflict` (name, port)."""
        async with self._calls.converse("run_box") as conversation:
            await conversation.send(pb.RunBoxRequest(serve_bridge=pb.ServeBridge(name=name, port=port)), more=False)
            async for answer in conversation.answers():
                place = answer.bridge_socket
                yield BridgePlace(place.path, place.port, place.url)
                return
            raise Unavailable("the host did not say where the bridge is")


def _message_of(command: BoxCommand) -> process_pb2.Command:
    message = process_pb2.Command(
        argv=process_pb2.Argv(args=command.argv),
        working_directory=command.working_directory,
        env=command.environment,
        longest_time=command.longest_time,
    )
    if command.timeout:
        message.timeout.FromMilliseconds(round(command.timeout * 1000))
    return message


def _event_of(frame: process_pb2.ExecResponse) -> BoxOutput | BoxExit | None:
    match frame.WhichOneof("kind"):
        case "stdout":
            return BoxOutput(frame.stdout)
        case "stderr":
            return BoxOutput(frame.stderr, of_errors=True)
        case "exit":
            end = frame.exit
            return BoxExit(
                BoxEnding(end.status),
                end.exit_code if end.HasField("exit_code") else None,
                end.signal if end.HasField("signal") else None,
            )
        case _:
            return None
