"""The answer of a service while it is read: as JSON, as a stream of events or lines, as text, or as a file."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import httpx2

from portway.runtime.sdk.service.clock import Deadline
from portway.runtime.sdk.service.events import EventReader, LineSplitter, ServerEvent, StreamUnreadable
from portway.runtime.sdk.service.failures import ServiceFailure, bad_answer
from portway.runtime.sdk.service.options import ServiceOptions
from portway.runtime.sdk.service.reading import parse
from portway.runtime.sdk.service.unpacking import Unpackable, Unpacker

Json = dict[str, Any]


class _Asked(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def options(self) -> ServiceOptions: ...

    def broken(self, error: httpx2.HTTPError, *, reading: bool) -> ServiceFailure: ...


class Reply:
    """An answer with a good status, whose body is still to be read: in one of the ways, once."""

    def __init__(self, service: _Asked, response: httpx2.Response, deadline: Deadline) -> None:
        self._service = service
        self._response = response
        self._deadline = deadline

    @property
    def content_type(self) -> str:
        kind: str = self._response.headers.get("content-type", "")
        return kind.partition(";")[0].strip().lower()

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def json(self) -> Json:
        """The body as a JSON object."""
        document = await self.document()
        if not isinstance(document, dict):
            raise bad_answer(self._service.name, "it is JSON, but no object")
        return document

    async def document(self) -> Any:
        """The body as JSON of any kind."""
        if self.content_type == "text/html":
            raise bad_answer(self._service.name, "it is a page in HTML where JSON was expected")
        try:
            return parse(await self.data())
        except ValueError:
            raise bad_answer(self._service.name, "it is no JSON") from None

    async def text(self) -> str:
        return (await self.data()).decode(errors="replace")

    async def data(self, most: int = 0) -> bytes:
        """The bytes; at most `most`, where that is given. Raises `ServiceFailure` for more."""
        return b"".join([piece async for piece in self._pieces(most)])

    async def events(self) -> AsyncIterator[ServerEvent]:
        """Server-sent events until the service ends them; whether they were all, only the runner knows."""
        if self.content_type != "text/event-stream":
            kind = self.content_type or "nothing that it names"
            raise bad_answer(self._service.name, f"it is {kind} where a stream of events was expected")
        reader = EventReader()
        try:
            async for piece in self._pieces():
                for event in reader.feed(piece):
                    yield event
            for event in reader.finish():
                yield event
        except StreamUnreadable as error:
            raise bad_answer(self._service.name, str(error)) from None

    async def lines(self) -> AsyncIterator[str]:
        """Lines that are not empty."""
        splitter = LineSplitter()
        try:
            async for piece in self._pieces():
                for line in splitter.feed(piece):
                    if line.strip():
                        yield line
            if splitter.rest().strip():
                yield splitter.rest()
        except StreamUnreadable as error:
            raise bad_answer(self._service.name, str(error)) from None

    async def _pieces(self, most: int = 0) -> AsyncIterator[bytes]:
        limit, size = most or self._service.options.max_answer_bytes, 0
        try:
            unpacker = Unpacker(self._response.headers.get("content-encoding", ""))
            raw = self._response.aiter_raw()
            while (packed := await self._step(raw)) is not None:
                for piece in unpacker.feed(packed):
                    size += len(piece)
                    if size > limit:
                        message = f"the answer of {self._service.name} is over {limit:,} bytes"
                        raise ServiceFailure("service.too_large", f"{message}; have the application answer with less")
                    yield piece
            unpacker.finish()
        except Unpackable as error:
            raise bad_answer(self._service.name, str(error)) from None

    async def _step(self, raw: AsyncIterator[bytes]) -> bytes | None:
        try:
            return await self._deadline.step(anext(raw, None), self._service.options.read_seconds, "read_seconds")
        except httpx2.HTTPError as error:
            raise self._service.broken(error, reading=True) from None
