"""The HTTP client that keeps the policy, whatever the library above it would do.

Importing this costs the HTTP library: callers import it at their own lazy seam.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import httpcore2
import httpx2

from portway.rpc.addresses import Resolver, system_resolver
from portway.rpc.errors import NotPermitted, Reason
from portway.rpc.telemetry import TRACE_HEADER, current_trace
from portway.server.outbound.policy import Origin, OutboundPolicy
from portway.server.outbound.reading import ENCODINGS, AnswerTooLarge, BoundedStream, OutboundRefused, within

__all__ = ["AnswerTooLarge", "ClientOptions", "OutboundRefused", "open_client", "refusal_in"]

# Addresses of one name that are tried in turn.
MAX_TRIES = 4
MAX_REDIRECTS = 5


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What one use adds to the policy. `origin` pins requests to one place and forbids redirects, so that a key goes
    nowhere else; without it redirects are followed, each checked again. A proxy is the operator's own: it resolves
    names itself, so only the URL is checked then. `traced` requests carry the trace of who makes them."""

    origin: Origin | None = None
    proxy: str = field(default="", repr=False)
    write_timeout: float = 30.0
    resolver: Resolver = system_resolver
    traced: bool = False


def open_client(policy: OutboundPolicy, options: ClientOptions | None = None) -> httpx2.AsyncClient:
    """A client for one use; the proxies and certificates of the environment are not read. Close it."""
    given = options or ClientOptions()
    timeout = httpx2.Timeout(
        connect=policy.connect_timeout,
        read=policy.read_timeout,
        write=given.write_timeout,
        pool=policy.connect_timeout,
    )
    return httpx2.AsyncClient(
        transport=_PolicyTransport(_inner(policy, given), policy, given.origin, given.traced),
        timeout=timeout,
        trust_env=False,
        follow_redirects=given.origin is None,
        max_redirects=MAX_REDIRECTS,
    )


def refusal_in(error: BaseException) -> NotPermitted | None:
    """The policy's refusal that caused `error`, for callers above a library that wraps what the client raises."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, OutboundRefused):
            return NotPermitted(str(current), reason=Reason.REFUSED_BY_POLICY)
        current = current.__cause__ or current.__context__
    return None


def _inner(policy: OutboundPolicy, options: ClientOptions) -> httpx2.AsyncHTTPTransport:
    limits = httpx2.Limits(max_connections=256, max_keepalive_connections=32)
    transport = httpx2.AsyncHTTPTransport(limits=limits, proxy=options.proxy or None, trust_env=False)
    if not options.proxy:
        # The public constructor takes no network backend; a test holds that connections go through this one.
        transport._pool = httpcore2.AsyncConnectionPool(
            ssl_context=httpx2.create_ssl_context(trust_env=False),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_CheckedBackend(policy, options.resolver),
        )
    return transport


class _CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves by itself and connects to the address that was checked: a name cannot change its mind in between."""

    def __init__(self, policy: OutboundPolicy, resolver: Resolver) -> None:
        self._policy = policy
        self._resolver = resolver
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the library's signature)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        limit = self._policy.connect_timeout if timeout is None else timeout
        deadline = time.monotonic() + limit
        try:
            async with asyncio.timeout(limit):
                addresses = await self._resolver(host, port)
        except TimeoutError:
            raise httpcore2.ConnectTimeout(f"the name of {host!r} was not resolved in time") from None
        except OSError as error:
            raise httpcore2.ConnectError(f"the name {host!r} cannot be resolved") from error
        try:
            # One forbidden address refuses the name: whoever mixes them wants us to try until it works.
            for address in addresses:
                self._policy.check_address(host, address)
        except NotPermitted as refusal:
            raise OutboundRefused(refusal.message) from None
        failure: Exception = httpcore2.ConnectError(f"the name {host!r} has no address")
        for address in addresses[:MAX_TRIES]:
            left = max(deadline - time.monotonic(), 0.001)
            try:
                return await self._inner.connect_tcp(str(address), port, left, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


class _PolicyTransport(httpx2.AsyncBaseTransport):
    def __init__(
        self, inner: httpx2.AsyncBaseTransport, policy: OutboundPolicy, origin: Origin | None, traced: bool
    ) -> None:
        self._inner = inner
        self._traced = traced
        self._policy = policy
        self._origin = origin

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._check(request)
        # Only what is decompressed here, within the limit of bytes.
        request.headers["accept-encoding"] = ", ".join(ENCODINGS)
        # Never by default: an id that leads through somebody's systems is nobody else's business.
        trace = current_trace.get() if self._traced else None
        if trace is not None:
            request.headers[TRACE_HEADER] = trace.traceparent()
        deadline = time.monotonic() + self._policy.total_timeout if self._policy.total_timeout else None
        response = await within(deadline, self._inner.handle_async_request(request))
        refusal = self._refusal(request, response)
        if refusal is not None:
            await response.aclose()
            raise refusal
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        stream = BoundedStream(
            response.stream,
            response.headers.get("content-encoding", ""),
            self._policy.max_response_bytes,
            deadline,
        )
        return httpx2.Response(
            response.status_code,
            headers=list(_plain_headers(response.headers)),
            stream=stream,
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _check(self, request: httpx2.Request) -> None:
        url = str(request.url)
        try:
            self._policy.check(url)
        except NotPermitted as refusal:
            raise OutboundRefused(refusal.message, request=request) from None
        if self._origin is not None and (target := Origin.of(url)) != self._origin:
            raise OutboundRefused(f"{target} is not {self._origin}", request=request)

    def _refusal(self, request: httpx2.Request, response: httpx2.Response) -> OutboundRefused | None:
        if self._origin is not None and response.has_redirect_location:
            text = f"{self._origin} redirects elsewhere, and the key must not follow"
            return OutboundRefused(text, request=request)
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", *ENCODINGS):
            return OutboundRefused("the answer is compressed in a way that was not asked for", request=request)
        return None


def _plain_headers(headers: httpx2.Headers) -> Iterator[tuple[bytes, bytes]]:
    """Without those that speak of the compressed bytes, where the answer was compressed."""
    compressed = headers.get("content-encoding", "").strip().lower() in ENCODINGS
    for name, value in headers.raw:
        if not (compressed and name.lower() in (b"content-encoding", b"content-length")):
            yield name, value
