"""The two conversations with something that runs: a command of its caller's own, and a process that is attached to."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from portway.box.backends.interface import RunningCommand, Stream
from portway.box.backends.types import Exit
from portway.box.isolation.terminal import TerminalSize
from portway.box.processes.frames import obey
from portway.box.processes.managed import Attachment, ManagedProcess, Piece
from portway.box.processes.run import StartedCommand
from portway.box.processes.types import CommandResult
from portway.box.processes.wire import COMMAND_PID, exit_of, exit_to, process_to
from portway.rpc.call import Call
from portway.v1 import process_pb2 as pb

ExecCall = Call[pb.ExecRequest, pb.ExecResponse]
T = TypeVar("T")
AttachCall = Call[pb.AttachProcessRequest, pb.AttachProcessResponse]


class ExecConversation:
    """Writes what a command says, in order of arrival; one frame at a time, so that a slow reader slows the command."""

    def __init__(self, call: ExecCall) -> None:
        self._call = call
        self._turn = asyncio.Lock()
        self._sent = {stream: 0 for stream in Stream}

    async def run(self, command: StartedCommand) -> Exit:
        await self._call.write(pb.ExecResponse(started=pb.ExecStarted(pid=COMMAND_PID)))
        return await while_reading(self._read(command.running), command.to_end(self._sink))

    async def tell_end(self, result: CommandResult) -> None:
        await self._call.write(pb.ExecResponse(exit=exit_of(result)))

    async def _sink(self, stream: Stream, data: bytes) -> None:
        async with self._turn:
            offset = self._sent[stream]
            self._sent[stream] += len(data)
            if stream is Stream.STDOUT:
                await self._call.write(pb.ExecResponse(stdout=data, offset=offset))
            else:
                await self._call.write(pb.ExecResponse(stderr=data, offset=offset))

    async def _read(self, running: RunningCommand) -> None:
        target = _CommandInput(running)
        # The end of the requests ends nothing: a caller that vanished looks the same. `close_stdin` says it.
        while (frame := await self._call.read()) is not None:
            await obey(frame, target)


class _CommandInput:
    """A running command as a target of frames."""

    def __init__(self, running: RunningCommand) -> None:
        self._running = running

    async def write(self, data: bytes, offset: int | None) -> None:
        await self._running.write(data)

    async def close_input(self) -> None:
        self._running.close_input()

    def resize(self, size: TerminalSize) -> None:
        self._running.resize(size)

    async def signal(self, number: int) -> None:
        await self._running.signal(number)


class AttachConversation:
    """Relays a process to one of its readers."""

    def __init__(self, call: AttachCall, process: ManagedProcess) -> None:
        self._call = call
        self._process = process

    async def run(self, attachment: Attachment) -> None:
        with attachment:
            await self._write(pb.AttachProcessResponse(attached=process_to(self._process.describe())))
            await while_reading(self._read(), self._relay(attachment))
        ended = self._process.final_exit()
        if ended is not None:
            await self._write(pb.AttachProcessResponse(exit=exit_to(ended)))

    async def _relay(self, attachment: Attachment) -> None:
        while (pieces := await attachment.next()) is not None:
            for piece in pieces:
                await self._write(_piece_to(piece))

    async def _write(self, response: pb.AttachProcessResponse) -> None:
        response.stdin_taken = self._process.describe().stdin_taken
        await self._call.write(response)

    async def _read(self) -> None:
        while (frame := await self._call.read()) is not None:
            await obey(frame, self._process)


def _piece_to(piece: Piece) -> pb.AttachProcessResponse:
    if piece.missing:
        gap = pb.OutputGap(missing_bytes=piece.missing, of_stderr=piece.stream is Stream.STDERR)
        return pb.AttachProcessResponse(output_gap=gap, offset=piece.offset)
    if piece.stream is Stream.STDOUT:
        return pb.AttachProcessResponse(stdout=piece.data, offset=piece.offset)
    return pb.AttachProcessResponse(stderr=piece.data, offset=piece.offset)


async def while_reading(reading: Coroutine[Any, Any, None], work: Awaitable[T]) -> T:
    """Does `work`, reading the caller's frames beside it until it is done."""
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(reading)
        result = await work
        reader.cancel()
    return result
