"""A client's channel: token, trace and limits on every call, whatever stub is used on top of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from portway.rpc.errors import InvalidInput
from portway.rpc.identity import AUTHORIZATION, BEARER
from portway.rpc.limits import MESSAGE_BYTES
from portway.rpc.telemetry import TRACE_HEADER, current_trace
from portway.rpc.transport import common_options, is_loopback

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How a client checks the server: by `ca` or the system's authorities. `name` stands in for the name dialled."""

    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    name: str = ""

    def __post_init__(self) -> None:
        for name in ("ca", "certificate", "private_key"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise ValueError(f"{name}: there is no file {path}; name a PEM file")


class PortwayChannel(grpc.aio.Channel):
    """A channel that adds the bearer token and the trace of the current call to each call made on it.

    Call credentials would refuse a connection without TLS, which loopback is, and interceptors cost more than the
    call: so the callables that stubs ask for are wrapped instead.
    """

    def __init__(self, inner: grpc.aio.Channel, token: Callable[[], str] | None) -> None:
        self._inner = inner
        self._token = token

    def headers(self, given: Metadata | None) -> Metadata:
        headers = list(given or ())
        if self._token is not None:
            headers.append((AUTHORIZATION, BEARER + self._token()))
        trace = current_trace.get()
        if trace is not None:
            headers.append((TRACE_HEADER, trace.traceparent()))
        return headers

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        return _Callable(self, self._inner.unary_unary(*args, **options))

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        return _Callable(self, self._inner.unary_stream(*args, **options))

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        return _Callable(self, self._inner.stream_unary(*args, **options))

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        return _Callable(self, self._inner.stream_stream(*args, **options))


class _Callable:
    __slots__ = ("_channel", "_inner")

    def __init__(self, channel: PortwayChannel, inner: Callable[..., Any]) -> None:
        self._channel = channel
        self._inner = inner

    def __call__(self, *args: Any, metadata: Metadata | None = None, **options: Any) -> Any:
        return self._inner(*args, metadata=self._channel.headers(metadata), **options)


def open_channel(
    address: str,
    *,
    token: str | Callable[[], str] | None = None,
    tls: ClientTls | None = None,
    message_bytes: int = MESSAGE_BYTES,
    plaintext_allowed: bool = False,
) -> PortwayChannel:
    """A channel to `host:port` or `unix:/path`; close it, or use it as `async with`.

    `token` may be a function where the token changes. Raises `InvalidInput` where a token would cross a network in the
    clear, unless `plaintext_allowed` says that something else protects it.
    """
    if token is not None and tls is None and not plaintext_allowed and not is_loopback(address):
        raise InvalidInput.field("address", f"{address} is not loopback: a token goes there only over TLS")
    options = _options(message_bytes, tls)
    if tls is None:
        inner = grpc.aio.insecure_channel(address, options=options)
    else:
        inner = grpc.aio.secure_channel(address, _credentials(tls), options=options)
    source: Callable[[], str] | None = (lambda: token) if isinstance(token, str) else token
    return PortwayChannel(inner, source)


def _credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    ca, key, certificate = (path.read_bytes() if path else None for path in (tls.ca, tls.private_key, tls.certificate))
    return grpc.ssl_channel_credentials(ca, key, certificate)


def _options(message_bytes: int, tls: ClientTls | None) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        *common_options(message_bytes),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # In spite of its name, how long one attempt to connect may take: a far or busy server is not an absent one.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # Channels to one server do not share a connection, so that a busy stream of one never holds up another's.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if tls is not None and tls.name:
        options.append(("grpc.ssl_target_name_override", tls.name))
    return options
