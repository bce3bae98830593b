"""The HTTP client of a provider: it keeps the outbound policy, whatever the library above it would do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2

from portway.server.models.outbound import Origin, OutboundPolicy


class OutboundRefused(httpx2.TransportError):
    """A request to another place than the provider's, or an answer that would lead there."""


class AnswerTooLarge(httpx2.TransportError):
    """More bytes than one answer may have."""


def open_client(policy: OutboundPolicy) -> httpx2.AsyncClient:
    """A client that reaches the policy's origin alone; the environment's proxies and certificates are not read."""
    wait = policy.timeouts
    timeout = httpx2.Timeout(connect=wait.connect, read=wait.read, write=wait.write, pool=wait.connect)
    limits = httpx2.Limits(max_connections=256, max_keepalive_connections=32)
    inner = httpx2.AsyncHTTPTransport(limits=limits, proxy=policy.proxy or None, trust_env=False)
    transport = _PolicyTransport(inner, policy)
    return httpx2.AsyncClient(transport=transport, timeout=timeout, trust_env=False, follow_redirects=False)


class _PolicyTransport(httpx2.AsyncBaseTransport):
    def __init__(self, inner: httpx2.AsyncBaseTransport, policy: OutboundPolicy) -> None:
        self._inner = inner
        self._policy = policy

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        target = Origin.of(str(request.url))
        if target != self._policy.origin:
            raise OutboundRefused(f"{target} is not {self._policy.origin}", request=request)
        response = await self._inner.handle_async_request(request)
        if response.has_redirect_location:
            await response.aclose()
            raise OutboundRefused(f"{target} redirects elsewhere, and the key must not follow", request=request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        stream = _BoundedStream(response.stream, self._policy.max_answer_bytes)
        return httpx2.Response(
            response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, limit: int) -> None:
        self._inner = inner
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for piece in self._inner:
            read += len(piece)
            if read > self._limit:
                raise AnswerTooLarge(f"the answer is larger than {self._limit} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()
