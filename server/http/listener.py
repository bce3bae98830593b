"""The HTTP listener. Its packages are imported where it is switched on, and nowhere else."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portway.rpc.errors import InvalidInput, WrongState
from portway.rpc.serving import TlsConfig
from portway.rpc.transport import is_loopback
from portway.server.http.patience import patient_protocol

if TYPE_CHECKING:
    import uvicorn

BACKLOG = 512
GRACE_SECONDS = 2
KEEP_ALIVE_SECONDS = 30
HEADER_BYTES = 32 * 1024

# What a mounted application is: ASGI.
Application = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """`connections`: more are answered with 503. `head_seconds`: how long the head of a request may take."""

    connections: int = 512
    head_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class RunningHttp:
    """`url` is what clients are told, without a slash at its end."""

    url: str


@contextlib.contextmanager
def bound(address: str, tls: TlsConfig | None) -> "Iterator[tuple[socket.socket, str]]":
    """A socket and its URL. Raises InvalidInput (address), WrongState (port in use, plain text off loopback)."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidInput.field("host.http_listen", f"{address!r} is no HOST:PORT such as 127.0.0.1:7780")
    if tls is None and not is_loopback(address):
        raise WrongState(
            f"host.http_listen is {address}, which others reach, and run tokens would cross the network in plain text. "
            "Set host.tls, or listen on 127.0.0.1."
        )
    name = host.strip("[]")
    listening = socket.socket(socket.AF_INET6 if ":" in name else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((name, int(port)))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise WrongState(
            f"cannot listen on {address} for HTTP ({error.strerror}); choose another host.http_listen"
        ) from error
    with listening:
        scheme = "https" if tls else "http"
        yield listening, f"{scheme}://{host}:{listening.getsockname()[1]}"


@contextlib.asynccontextmanager
async def serve_http(
    listening: socket.socket,
    url: str,
    applications: Mapping[str, Application],
    tls: TlsConfig | None,
    limits: HttpLimits,
) -> AsyncIterator[RunningHttp]:
    """Serve applications by the first part of their path, such as `/gateway`, while the block runs."""
    # A host without HTTP pays for none of this: 8 MB and 90 ms.
    import uvicorn  # noqa: PLC0415
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.routing import Mount  # noqa: PLC0415

    class Server(uvicorn.Server):
        """Signals are the host's own affair."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    application = Starlette(routes=[Mount(path, app=one) for path, one in applications.items()])
    server = Server(http_config(application, limits, tls))
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve(sockets=[listening]), name="http")
        try:
            yield RunningHttp(url)
        finally:
            server.should_exit = True
            await serving


def http_config(application: Application, limits: HttpLimits, tls: TlsConfig | None = None) -> "uvicorn.Config":
    """How every application of the host is served."""
    import uvicorn  # noqa: PLC0415 - as above

    return uvicorn.Config(
        application,
        # A line for each request would say what the ledger of the run says.
        access_log=False,
        log_config=None,
        lifespan="off",
        http=patient_protocol(limits.head_seconds),
        ws="none",
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        limit_concurrency=limits.connections,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.private_key if tls else None,
        ssl_ca_certs=str(tls.client_ca) if tls and tls.client_ca else None,
        ssl_cert_reqs=2 if tls and tls.client_ca else 0,
    )
