"""An answer's bytes, decompressed, within a limit of size and time."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import TypeVar

import httpx2

ENCODINGS = ("gzip", "deflate")
# A piece of decompressed data: a small answer cannot become a large buffer at once.
PIECE = 256 * 1024

T = TypeVar("T")


class OutboundRefused(httpx2.TransportError):
    """A request that the policy does not allow, or an answer that would lead to one."""


class AnswerTooLarge(httpx2.TransportError):
    """More bytes than one answer may have."""


async def within(deadline: float | None, work: Awaitable[T]) -> T:
    """`work`, until the clock says `deadline`; then it is cancelled and a timeout of the HTTP library is raised."""
    if deadline is None:
        return await work
    try:
        async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
            return await work
    except TimeoutError:
        raise httpx2.ReadTimeout("the whole exchange took longer than is allowed") from None


class BoundedStream(httpx2.AsyncByteStream):
    """The body of one answer. `limit` 0 and `deadline` None mean none."""

    def __init__(self, inner: httpx2.AsyncByteStream, encoding: str, limit: int, deadline: float | None) -> None:
        self._inner = inner
        self._compressed = encoding.strip().lower() in ENCODINGS
        self._limit = limit
        self._deadline = deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        pieces = aiter(self._inner)
        unpack = _Unpacking() if self._compressed else None
        while True:
            raw = await within(self._deadline, anext(pieces, None))
            if raw is None:
                return
            for piece in unpack.pieces(raw) if unpack is not None else (raw,):
                read += len(piece)
                if self._limit and read > self._limit:
                    raise AnswerTooLarge(f"the answer is larger than {self._limit} bytes")
                yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Unpacking:
    def __init__(self) -> None:
        # Both formats, told apart by their first bytes.
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        try:
            while piece := self._inflate.decompress(data, PIECE):
                yield piece
                data = self._inflate.unconsumed_tail
        except zlib.error:
            raise httpx2.DecodingError("the answer's compression is broken") from None
