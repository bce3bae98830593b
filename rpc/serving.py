"""A gRPC server from services: limits, TLS, health, reflection, channelz, and an end that lets calls finish."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from portway.rpc import diagnostics
from portway.rpc.binding import BoundService, Service, bind
from portway.rpc.certificates import Certificates, ClientRule, TokenPolicy
from portway.rpc.errors import NotFound, WrongState
from portway.rpc.handlers import Answered, Gate, Refused, handlers_of
from portway.rpc.health import Health
from portway.rpc.identity import Authenticator
from portway.rpc.limits import Limits
from portway.rpc.metrics.calls import CallCounts
from portway.rpc.streams import OpenStreams, Standing
from portway.rpc.traces.types import Recorder
from portway.rpc.transport import common_options, is_loopback

DEFAULT_GRACE = 10.0
# Calls past our own limit are refused by us; past this one by the library, without any details.
_BACKSTOP_FACTOR = 2

_PENDING_CALLS = 20_000


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """PEM files of a server. With `client_ca`, only clients with a certificate of that authority may connect.

    `clients` say whom certificates stand for, `tokens` whether their callers may or must send a token as well. Without
    `clients` a certificate opens the connection, and a token says who calls.
    """

    certificate: Path
    private_key: Path
    client_ca: Path | None = None
    clients: tuple[ClientRule, ...] = ()
    tokens: TokenPolicy = TokenPolicy.ALLOWED

    def __post_init__(self) -> None:
        if self.clients and self.client_ca is None:
            raise ValueError("clients need client_ca: without an authority anybody may write any name")


class RunningServer:
    """A server that listens. `address` is what clients dial; `port` is None on a Unix socket."""

    def __init__(
        self,
        server: grpc.aio.Server,
        address: str,
        port: int | None,
        gate: Gate,
        health: Health,
        services: list[BoundService],
    ) -> None:
        self._server = server
        self._gate = gate
        self._health = health
        self.address = address
        self.port = port
        self.services = tuple(services)

    @property
    def draining(self) -> asyncio.Event:
        """Set when the server begins to stop, for loops that should then end by themselves."""
        return self._gate.draining

    def set_serving(self, service: str, serving: bool) -> None:
        """What the health service says of one service, such as `portway.v1.RunService`."""
        self._health.set_serving(service, serving)

    def begin_draining(self) -> None:
        """Refuses new calls and says so in its health; those under way go on until `stop`."""
        self._health.drain()
        self._gate.draining.set()

    async def stop(self, grace: float) -> None:
        """Refuses new calls, waits up to `grace` seconds for those under way, then cancels what is left."""
        self.begin_draining()
        try:
            async with asyncio.timeout(grace):
                await self._gate.until_idle()
        except TimeoutError:
            structlog.get_logger("portway.rpc").warning("calls were cut off at the end of the grace time", grace=grace)
        # A call just ended still has its status to send.
        await self._server.stop(min(grace, 1.0) if grace else None)


@asynccontextmanager
async def serve(
    services: Sequence[Service],
    *,
    address: str,
    authenticator: Authenticator,
    tls: TlsConfig | None = None,
    limits: Limits | None = None,
    grace: float = DEFAULT_GRACE,
    streams: OpenStreams | None = None,
    refused: Refused | None = None,
    standing: Standing | None = None,
    counts: CallCounts | None = None,
    answered: Answered | None = None,
    recorder: Recorder | None = None,
) -> AsyncIterator[RunningServer]:
    """Serves while the block runs. `address` is `host:port` (port 0: any) or `unix:/path`.

    `streams` are those that are open, for who ends them early; `refused` is told of every call that is refused;
    `standing` raises for a caller known by a certificate who is not let in all the same; `counts` counts calls;
    `answered`, by path, is told of those that went well; `recorder` takes their spans.

    Raises `RegistrationError` for a servicer that does not fit and `WrongState` for an address that cannot be bound.
    """
    limits = limits or Limits()
    names = [service.name or service.descriptor.full_name for service in services]
    health = Health(names)
    certificates = Certificates(tls.clients, tls.tokens) if tls and tls.clients else None
    gate = Gate(authenticator, limits, streams, refused, certificates, standing, counts, answered, recorder)
    inner = diagnostics.services([*names, health.service().descriptor.full_name])
    bound = [bind(service) for service in (*services, health.service(), *inner)]
    most = (limits.concurrent_calls + limits.concurrent_streams) * _BACKSTOP_FACTOR
    server = grpc.aio.server(options=_options(limits), maximum_concurrent_rpcs=most)
    for service in bound:
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service.name, handlers_of(service, gate)),)
        )
    port = _listen(server, address, tls)
    await server.start()
    running = RunningServer(server, _dialled(address, port), port, gate, health, bound)
    try:
        yield running
    finally:
        await running.stop(grace)


def _options(limits: Limits) -> list[tuple[str, int]]:
    return [
        *common_options(limits.message_bytes),
        ("grpc.max_concurrent_streams", limits.streams_per_connection),
        # A second server on the same port must fail, not share its calls.
        ("grpc.so_reuseport", 0),
        ("grpc.enable_channelz", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 2_000),
        ("grpc.http2.max_ping_strikes", 5),
        # Calls that nobody has looked at yet: past a thousand the library drops them with a bare CANCELLED. The gate
        # refuses with a reason and a time to come again instead.
        ("grpc.server.max_pending_requests", _PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _PENDING_CALLS),
    ]


def _listen(server: grpc.aio.Server, address: str, tls: TlsConfig | None) -> int | None:
    try:
        if tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, _credentials(tls))
    except RuntimeError:
        raise WrongState(
            f"cannot listen on {address}: the port is in use, or the address is not one of this machine; "
            "stop the other process or choose another address"
        ) from None
    if tls is None and not is_loopback(address):
        structlog.get_logger("portway.rpc").warning(
            "tokens and messages are readable on the network: this address is not loopback and has no TLS",
            address=address,
        )
    return None if address.startswith("unix:") else port


def _credentials(tls: TlsConfig) -> grpc.ServerCredentials:
    client_ca = _read_pem(tls.client_ca) if tls.client_ca else None
    pair = (_read_pem(tls.private_key), _read_pem(tls.certificate))
    return grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)


def _read_pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound(
            f"cannot read the TLS file {path}: {error.strerror}; check the path and its permissions"
        ) from None


def _dialled(address: str, port: int | None) -> str:
    """What to dial for an address that was listened on: the real port, and loopback for `every interface`."""
    if port is None:
        return address
    host = address.rpartition(":")[0]
    return f"{ {'0.0.0.0': '127.0.0.1', '[::]': '[::1]', '': '127.0.0.1'}.get(host, host) }:{port}"
