"""One call of a component over a stream of its own: frames in, frames out, and one result or an error."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC
from typing import Any

from google.protobuf.message import DecodeError

from portway.rpc.errors import Cancelled, InvalidInput, PayloadTooLarge, Reason
from portway.runtime.sdk.components.call import PluginStorage
from portway.runtime.sdk.components.documents import DocumentHead, IncomingDocument, Section
from portway.runtime.sdk.host.kept import Storage
from portway.runtime.sdk.session.calls import Calls
from portway.runtime.sdk.session.clock import RunClock
from portway.runtime.sdk.session.outbox import Outbox
from portway.runtime.sdk.session.run_session import RunStream
from portway.runtime.sdk.types.convert import read
from portway.v1 import component_pb2 as pb
from portway.v1 import runtime_pb2

MAX_FRAME_BYTES = 1024 * 1024
# Frames of documents that wait to be read; the host waits behind them.
WAITING_FRAMES = 64
STORAGE = "storage.plugin"


def parse_component_frames(raw: bytes) -> list[pb.ComponentInputFrame]:
    """Raises `InvalidInput` for bytes that are no frames."""
    message = runtime_pb2.RunComponentRequest()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        raise InvalidInput("the message is no RunComponentRequest", reason=Reason.UNPARSABLE_MESSAGE) from None
    return list(message.frames)


class ComponentSession:
    """The stream as the component's end sees it. `start` is what it was begun with."""

    def __init__(self, stream: RunStream, start: pb.ComponentStart) -> None:
        self.start = start
        self.deadline = start.deadline.ToDatetime(UTC) if start.HasField("deadline") else None
        self._stream = stream
        self._outbox = Outbox(stream.write, 0)
        self._calls = Calls(self._outbox, RunClock(self.deadline))
        self._content: asyncio.Queue[pb.ComponentInputFrame | None] = asyncio.Queue(WAITING_FRAMES)
        self._cancelled: str | None = None
        self._working: asyncio.Task[pb.ComponentResult] | None = None

    @property
    def storage(self) -> PluginStorage | None:
        return PluginStorage(Storage(self._calls)) if STORAGE in self.start.permissions else None

    async def execute(
        self,
        first: list[pb.ComponentInputFrame],
        work: Callable[["ComponentSession"], Coroutine[Any, Any, pb.ComponentResult]],
    ) -> None:
        """Returns when the result is sent; raises what the work raises, after what it said before."""
        reading = asyncio.ensure_future(self._read(first))
        pumping = asyncio.ensure_future(self._outbox.pump())
        working = self._working = asyncio.ensure_future(work(self))
        try:
            # A stream that breaks, or says what is no frame, ends the work.
            await asyncio.wait([working, pumping, reading], return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and not working.done():
                reading.result()
                await asyncio.wait([working, pumping], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                pumping.result()
            await self._end(working, pumping)
        finally:
            for task in (reading, pumping, working):
                task.cancel()
            await asyncio.gather(reading, pumping, working, return_exceptions=True)

    async def _end(self, working: "asyncio.Future[pb.ComponentResult]", pumping: "asyncio.Future[None]") -> None:
        try:
            result = working.result()
        except asyncio.CancelledError:
            raise Cancelled(self._cancelled or "the component cancelled itself") from None
        else:
            await self.send(pb.ComponentOutputFrame(result=result))
        finally:
            self._outbox.close()
            await asyncio.wait([pumping])

    async def send(self, frame: pb.ComponentOutputFrame) -> None:
        """Raises `PayloadTooLarge`. Waits while the host reads too slowly."""
        raw = frame.SerializeToString()
        if len(raw) > MAX_FRAME_BYTES:
            raise PayloadTooLarge(f"{frame.WhichOneof('kind')}: {len(raw)} bytes are more than the 1 MiB of a frame")
        self._outbox.put(raw, urgent=True)
        await self._outbox.room()

    async def documents(self) -> AsyncIterator[IncomingDocument]:
        """Each document in its turn; what was not read of one is passed over."""
        while (frame := await self._content.get()) is not None:
            if not frame.HasField("document"):
                raise InvalidInput("content comes after its `document`", reason=Reason.UNEXPECTED_FRAME)
            document = IncomingDocument(read(DocumentHead, frame.document), self._content_of_one())
            yield document
            await document.skip()

    def document(self, head: DocumentHead) -> IncomingDocument:
        """The only document, whose head came with the start."""
        return IncomingDocument(head, self._content_of_one())

    async def _content_of_one(self) -> AsyncIterator[Section | bytes]:
        while (frame := await self._content.get()) is not None:
            match frame.WhichOneof("kind"):
                case "section":
                    yield read(Section, frame.section)
                case "piece":
                    yield frame.piece
                case "end_of_document":
                    return
                case _:
                    raise InvalidInput("a document ends before another begins", reason=Reason.UNEXPECTED_FRAME)
        # Whoever asks once more hears the same.
        self._content.put_nowait(None)
        raise InvalidInput("the content ended before the document was whole", reason=Reason.UNEXPECTED_FRAME)

    async def _read(self, first: list[pb.ComponentInputFrame]) -> None:
        frames: list[pb.ComponentInputFrame] | None = first
        while frames is not None:
            for frame in frames:
                await self._take(frame)
            raw = await self._stream.read()
            frames = None if raw is None else parse_component_frames(raw)
        self._calls.close()
        await self._content.put(None)

    async def _take(self, frame: pb.ComponentInputFrame) -> None:
        match frame.WhichOneof("kind"):
            case "answer":
                self._calls.on_answer(frame.answer)
            case "cancel":
                self._cancelled = frame.cancel.reason or "the call was cancelled"
                if self._working is not None:
                    self._working.cancel()
            case "document" | "section" | "piece" | "end_of_document":
                await self._content.put(frame)
            case "start":
                raise InvalidInput("a call is started once", reason=Reason.UNEXPECTED_FRAME)
            case _:
                # A kind of a later version of the contract.
                pass
