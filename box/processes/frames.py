"""Frames of a client to what runs: the same for a command and for an attached process, checked one by one."""

from typing import Protocol

from portway.box.isolation.terminal import TerminalSize
from portway.box.processes.wire import size_from
from portway.rpc.errors import InvalidInput, Reason
from portway.v1 import process_pb2 as pb

MAX_STDIN_FRAME = 1024 * 1024
_LARGEST_SIDE = 10_000
_LAST_SIGNAL = 31


class TakesInput(Protocol):
    """What frames are for."""

    async def write(self, data: bytes, offset: int | None) -> None: ...

    async def close_input(self) -> None: ...

    def resize(self, size: TerminalSize) -> None: ...

    async def signal(self, number: int) -> None: ...


async def obey(frame: pb.ExecRequest | pb.AttachProcessRequest, target: TakesInput) -> None:
    """Does what one frame says. Raises `InvalidInput` for one that may not come here."""
    match frame.WhichOneof("kind"):
        case "stdin":
            if len(frame.stdin) > MAX_STDIN_FRAME:
                raise InvalidInput.field("stdin", f"has more than {MAX_STDIN_FRAME} bytes in one frame")
            await target.write(frame.stdin, _offset(frame))
        case "close_stdin":
            await target.close_input()
        case "resize":
            size = size_from(frame.resize)
            if not (1 <= size.rows <= _LARGEST_SIDE and 1 <= size.columns <= _LARGEST_SIDE):
                raise InvalidInput.field("resize", f"rows and columns are between 1 and {_LARGEST_SIDE}")
            target.resize(size)
        case "signal":
            if not 1 <= frame.signal <= _LAST_SIGNAL:
                raise InvalidInput.field("signal", f"is between 1 and {_LAST_SIGNAL}")
            await target.signal(frame.signal)
        case other:
            raise InvalidInput(
                f"a frame with {other or 'nothing'} may not come here: the first starts, once, the others are input",
                reason=Reason.UNEXPECTED_FRAME,
            )


def _offset(frame: pb.ExecRequest | pb.AttachProcessRequest) -> int | None:
    return frame.stdin_offset if frame.HasField("stdin_offset") else None
