"""The conversation with a command that lingers: begun, or come back to, by the caller that has it now."""

from portway.box.backends.interface import Stream
from portway.box.processes.frames import obey
from portway.box.processes.lingering.command import Follower, LingeringCommand, OutputPiece
from portway.box.processes.streams import ExecCall, while_reading
from portway.box.processes.types import CommandResult
from portway.box.processes.wire import COMMAND_PID, exit_of
from portway.rpc.errors import OutOfRange
from portway.v1 import process_pb2 as pb

FROM_THE_START = {Stream.STDOUT: 0, Stream.STDERR: 0}


class FollowConversation:
    """Relays what a follower reads; ends with the exit, or when another caller comes back."""

    def __init__(self, call: ExecCall, command: LingeringCommand) -> None:
        self._call = call
        self._command = command

    async def run(self, offsets: dict[Stream, int]) -> None:
        with self._command.follow(offsets) as follower:
            await while_reading(follower.until_superseded(), self._converse(follower))

    async def _converse(self, follower: Follower) -> None:
        await self._write(pb.ExecResponse(started=pb.ExecStarted(pid=COMMAND_PID)))
        await while_reading(self._read(follower), self._relay(follower))
        await self._write(pb.ExecResponse(exit=exit_of(self._command.result)))

    async def _relay(self, follower: Follower) -> None:
        while (piece := await follower.next()) is not None:
            await self._write(piece_to(piece))
            follower.sent(piece)

    async def _write(self, response: pb.ExecResponse) -> None:
        response.stdin_taken = self._command.stdin_taken
        await self._call.write(response)

    async def _read(self, follower: Follower) -> None:
        while (frame := await self._call.read()) is not None:
            if frame.WhichOneof("kind") == "taken":
                self._command.confirm(offsets_of(frame.taken))
            else:
                await obey(frame, follower)


class Replay:
    """Tells a command that ended some time ago, as far as its output is kept."""

    def __init__(self, call: ExecCall, result: CommandResult) -> None:
        self._call = call
        self._result = result

    async def run(self, offsets: dict[Stream, int]) -> None:
        output = self._result.output
        kept = {
            Stream.STDOUT: (output.stdout, output.stdout_left_out),
            Stream.STDERR: (output.stderr, output.stderr_left_out),
        }
        for stream, (data, left_out) in kept.items():
            if offsets[stream] > len(data) + left_out:
                raise OutOfRange(f"{stream} had {len(data) + left_out} bytes, fewer than the offset {offsets[stream]}")
        await self._call.write(pb.ExecResponse(started=pb.ExecStarted(pid=COMMAND_PID)))
        for stream, (data, left_out) in kept.items():
            for piece in _kept_pieces(stream, data, left_out, offsets[stream]):
                await self._call.write(piece_to(piece))
        await self._call.write(pb.ExecResponse(exit=exit_of(self._result)))


def _kept_pieces(stream: Stream, data: bytes, left_out: int, offset: int) -> list[OutputPiece]:
    total = len(data) + left_out
    if left_out and offset:
        # Where in the middle bytes are missing is not kept: told from the start it is head, tail and how much less.
        return [OutputPiece(stream, offset, b"", total - offset)] if total > offset else []
    pieces = [OutputPiece(stream, offset, data[offset:], 0)] if data[offset:] else []
    return [*pieces, OutputPiece(stream, len(data), b"", left_out)] if left_out else pieces


def offsets_of(message: pb.ExecResume | pb.ExecTaken) -> dict[Stream, int]:
    return {Stream.STDOUT: message.stdout_offset, Stream.STDERR: message.stderr_offset}


def piece_to(piece: OutputPiece) -> pb.ExecResponse:
    if piece.missing:
        gap = pb.OutputGap(missing_bytes=piece.missing, of_stderr=piece.stream is Stream.STDERR)
        return pb.ExecResponse(truncated=gap, offset=piece.offset)
    if piece.stream is Stream.STDOUT:
        return pb.ExecResponse(stdout=piece.data, offset=piece.offset)
    return pb.ExecResponse(stderr=piece.data, offset=piece.offset)
