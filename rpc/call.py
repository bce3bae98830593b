"""What a servicer's method knows about the call it answers, and how it reads and writes the call's streams."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

import grpc

from portway.rpc.binding import BoundMethod
from portway.rpc.errors import Cancelled, PayloadTooLarge, PortwayError
from portway.rpc.identity import Caller, Peer
from portway.rpc.telemetry import Trace
from portway.rpc.traces.span import OpenSpan
from portway.rpc.validation import check, parse

Req = TypeVar("Req")
Resp = TypeVar("Resp")


class Call(Generic[Req, Resp]):
    """One call. `Req` and `Resp` are the messages of its streams.

    `caller` is who calls, as authenticated. `draining` is set when the server begins to stop: a stream without an end
    of its own should then come to a good one. One task reads and one task writes at a time.
    """

    __slots__ = (
        "_context",
        "_first_is_read",
        "_headers_are_sent",
        "_message_bytes",
        "caller",
        "cut_off",
        "draining",
        "metadata",
        "method",
        "span",
        "trace",
    )

    caller: Caller

    def __init__(
        self,
        method: BoundMethod,
        context: grpc.aio.ServicerContext[Any, Any],
        draining: asyncio.Event,
        message_bytes: int,
    ) -> None:
        self.method = method
        self.draining = draining
        self.metadata: tuple[tuple[str, str | bytes], ...] = context.invocation_metadata() or ()  # type: ignore[assignment]
        self.trace = Trace(self.metadata)
        # Set where the trace is recorded here.
        self.span: OpenSpan | None = None
        self._context = context
        self._first_is_read = False
        self._headers_are_sent = False
        self._message_bytes = message_bytes
        # Set when the server ends the stream by itself: what its caller is told.
        self.cut_off: PortwayError | None = None

    @property
    def peer(self) -> Peer:
        return Peer(self._context.peer)

    @property
    def connection(self) -> Mapping[str, Iterable[bytes]]:
        """What the library knows of the connection, such as the certificate of its other end."""
        return self._context.auth_context()

    @property
    def trace_id(self) -> str:
        return self.trace.trace_id

    def header(self, key: str) -> str | None:
        """The only value of a metadata key; None where it is missing or was sent more than once."""
        found = None
        for name, value in self.metadata:
            if name == key:
                if found is not None:
                    return None
                found = value
        return cast(str | None, found)

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None where there is none."""
        return self._context.time_remaining()

    async def read(self) -> Req | None:
        """The next request, None after the last. The first one is checked against its rules; later ones are the
        servicer's to check, because rules cost more than a small frame."""
        raw = await self.read_bytes()
        if raw is None or self.method.raw:
            return cast(Req | None, raw)
        message = parse(self.method.request_class, raw)
        if not self._first_is_read:
            self._first_is_read = True
            check(message)
        return cast(Req, message)

    async def read_bytes(self) -> bytes | None:
        """The next request as it came, None after the last: for relays."""
        try:
            raw = await self._context.read()
        except grpc.aio.BaseError:
            raise Cancelled("the call is over") from None
        if raw is grpc.aio.EOF:
            await self._confirm_the_end()
            return None
        self.check_size(raw, "request")
        return cast(bytes, raw)

    async def hear_out(self, seconds: float) -> None:
        """Reads and drops what the caller is sending, to its end or for so long. The library's clients replace the
        status of a call that ends while they write by an error of their own: a refusal would not reach them."""
        try:
            async with asyncio.timeout(seconds):
                while await self._context.read() is not grpc.aio.EOF:
                    pass
        except (grpc.aio.BaseError, TimeoutError):
            # Gone, or a reader of the method was stopped amid a read, or still sending: the status goes out anyway.
            return

    async def _confirm_the_end(self) -> None:
        """The library reports a caller that went away as an end, and cancels only afterwards: half an upload would look
        whole. Sending the headers tells the two apart. Where a response was sent already there is nothing left to tell
        them by, so a stream in both directions whose end matters needs a last frame of its own."""
        if self._headers_are_sent:
            return
        self._headers_are_sent = True
        try:
            await self._context.send_initial_metadata(())
        except grpc.aio.BaseError:
            raise Cancelled("the caller went away") from None

    async def send_headers(self, headers: Sequence[tuple[str, str]]) -> None:
        """Sends what the caller learns before the first response; once, and only before it."""
        self._headers_are_sent = True
        try:
            await self._context.send_initial_metadata(headers)
        except grpc.aio.BaseError:
            raise Cancelled("the caller went away") from None

    async def write(self, response: Resp) -> None:
        """Sends a response; waits while the caller reads too slowly. Raises `Cancelled` once the caller is gone."""
        raw = response if self.method.raw else cast(Any, response).SerializeToString()
        await self.write_bytes(cast(bytes, raw))

    async def write_bytes(self, raw: bytes) -> None:
        self.check_size(raw, "response")
        self._headers_are_sent = True
        try:
            await self._context.write(raw)
        except grpc.aio.BaseError:
            # What the library calls an internal error of a batch is a caller that stopped reading, or a stopped server.
            raise Cancelled("the caller went away") from None

    def check_size(self, raw: bytes, what: str) -> None:
        if len(raw) > self._message_bytes:
            raise PayloadTooLarge(
                f"the {what} has {len(raw)} bytes, more than the {self._message_bytes} that one message may have"
            )

    def log_fields(self) -> Iterator[tuple[str, object]]:
        """Who called what; never what was said."""
        yield "method", self.method.path
        caller = getattr(self, "caller", None)
        if caller is not None:
            yield "caller", caller.token_id
            yield "role", caller.role.name.lower()
            if caller.subject:
                yield "subject", caller.subject
