"""One HTTP answer on its way out: whole, or piece by piece to a program that may read too slowly."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from portway.rpc.ids import new_id
from portway.server.gateway import sse
from portway.server.gateway.entering import Gone
from portway.server.gateway.shape import Refusal

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_JSON = "application/json"


class Reply:
    """Raises Gone where the program has closed its connection, or reads nothing for too long."""

    def __init__(self, send: Send, patience: float) -> None:
        self._send = send
        self._patience = patience
        self.request_id = new_id("req")
        self.started = False
        self.ended = False

    async def json(
        self, body: Mapping[str, Any] | Sequence[Any], status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        data = sse.compact(body)
        await self._start(status, _JSON, {"content-length": str(len(data)), **(headers or {})})
        await self._body(data, last=True)

    async def refuse(self, refusal: Refusal) -> None:
        # Part of the body may be unread: the connection is not used again.
        await self.json(refusal.body, refusal.status, {**refusal.headers, "connection": "close"})

    async def empty(self, status: int) -> None:
        """An answer without a body."""
        self.started = True
        headers = [(b"content-length", b"0"), (b"x-request-id", self.request_id.encode())]
        await self._out({"type": "http.response.start", "status": status, "headers": headers})
        await self._body(b"", last=True)

    async def pieces(self, pieces: Iterable[bytes]) -> None:
        """Pieces of a stream; the first ones begin it."""
        data = b"".join(pieces)
        if not self.started:
            await self._start(200, "text/event-stream; charset=utf-8", {"cache-control": "no-cache"})
        if data:
            await self._body(data, last=False)

    async def end(self) -> None:
        await self._body(b"", last=True)

    async def _start(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        self.started = True
        lines = {"content-type": kind, "request-id": self.request_id, "x-request-id": self.request_id, **headers}
        await self._out(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
            }
        )

    async def _body(self, data: bytes, *, last: bool) -> None:
        self.ended = last
        await self._out({"type": "http.response.body", "body": data, "more_body": not last})

    async def _out(self, message: MutableMapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._send(message)
        except (TimeoutError, OSError):
            raise Gone from None
