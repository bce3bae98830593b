"""Builds the web chat and runs it until it is told to stop."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import structlog
import uvicorn

from portway.adapters.kit.dial import Dial
from portway.adapters.kit.host import Host
from portway.adapters.kit.link import Identity, Link, LinkEnded
from portway.adapters.web_chat.files import Files
from portway.adapters.web_chat.http import make_application
from portway.adapters.web_chat.keys import WebKey, load_key
from portway.adapters.web_chat.limits import FRAME_BYTES, LIMITS, PING_SECONDS
from portway.adapters.web_chat.outbound import WebPlatform
from portway.adapters.web_chat.pages import Pages
from portway.adapters.web_chat.rooms import Rooms
from portway.adapters.web_chat.settings import Places, WebSettings
from portway.adapters.web_chat.socket import Sockets
from portway.adapters.web_chat.uploads import Uploads
from portway.rpc.configuration import ConfigurationError

GRACE = 2.0
_BACKLOG = 256
_OTHER_CONNECTIONS = 256
_PATIENCE_SECONDS = 2.0
"""Connections beside those of open pages: files, uploads, the page itself."""

log = structlog.get_logger("portway.web_chat")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says besides the settings. `host` is an address or the path of the host's ready file."""

    host: str
    token_file: Path
    data: Path
    ready_file: Path | None = None


class _Server(uvicorn.Server):
    """Signals are this process's own affair: the connection to the host has to come to its end as well."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(slots=True)
class RunningChat:
    """`address` is what a person opens: it holds the key. `stop` is set when it should end; `ended` says why, where the
    host does not want this adapter any more. `connected` is set once the host has welcomed it."""

    address: str
    port: int
    key: WebKey
    stop: asyncio.Event
    connected: asyncio.Event
    ended: LinkEnded | None = None

    def sign_in(self) -> str:
        """A header `Cookie` of somebody who has the key."""
        return f"{self.key.cookie}={self.key.open()}"


async def run(settings: WebSettings, options: Options) -> None:
    """Serves until SIGTERM or SIGINT. Raises `LinkEnded` where the host does not want this adapter any more, and
    `ConfigurationError` where it cannot start."""
    async with serving(settings, options) as chat:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, chat.stop.set)
        if options.ready_file is not None:
            # Ready means that a message goes through. A host that is away must not keep the page from saying so.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(chat.connected.wait(), _PATIENCE_SECONDS)
            _write_ready(options.ready_file, chat.address)
        await chat.stop.wait()
    if chat.ended is not None:
        raise chat.ended


@asynccontextmanager
async def serving(settings: WebSettings, options: Options) -> AsyncIterator[RunningChat]:
    """Serves while the block runs."""
    key = load_key(options.data / "web-key")
    listening = _listen(settings)
    port = listening.getsockname()[1]
    places = Places.of(settings, port)
    dial = Dial(options.host, options.token_file, settings.host_tls)
    host = Host(dial)
    link = Link(dial, Identity(settings.adapter_id, "web_chat", _version(), live_updates=True), LIMITS)
    rooms = Rooms(host, link)
    sockets = Sockets(rooms, host, link, _version(), settings.max_connections)
    platform = WebPlatform(rooms, sockets)
    application = make_application(Pages(key, places), sockets, Uploads(host), Files(host), places, key)
    server = _Server(_config(application, settings.max_connections + _OTHER_CONNECTIONS))
    chat = RunningChat(_address(key, settings, port), port, key, asyncio.Event(), link.ever_connected)
    async with contextlib.aclosing(dial), asyncio.TaskGroup() as group:
        background = [
            group.create_task(_keep(link, platform, chat), name="link"),
            group.create_task(rooms.run(), name="rooms"),
        ]
        web = group.create_task(server.serve(sockets=[listening]), name="web")
        try:
            yield chat
        finally:
            await sockets.close_all()
            await link.drain(GRACE)
            server.should_exit = True
            await web
            for task in background:
                task.cancel()


async def _keep(link: Link, platform: WebPlatform, chat: RunningChat) -> None:
    try:
        await link.run(platform)
    except LinkEnded as error:
        chat.ended = error
        chat.stop.set()


def _config(application: object, connections: int) -> uvicorn.Config:
    return uvicorn.Config(
        application,  # type: ignore[arg-type]
        # Access logs would hold the key of a sign-in address.
        access_log=False,
        log_config=None,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        ws="websockets-sansio",
        ws_max_size=FRAME_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        timeout_graceful_shutdown=int(GRACE),
        backlog=_BACKLOG,
        limit_concurrency=connections,
    )


def _listen(settings: WebSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.address, settings.port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"cannot listen on {settings.listen} ({error.strerror}); stop the other process on that port or choose "
            "another one with --listen"
        ) from error
    return listening


def _address(key: WebKey, settings: WebSettings, port: int) -> str:
    if settings.origins:
        return f"{settings.origins[0].rstrip('/')}/?key={key.text}"
    name = f"[{settings.address}]" if ":" in settings.address else settings.address
    return f"http://{name}:{port}/?key={key.text}"


def _write_ready(path: Path, address: str) -> None:
    """In one step, and readable by nobody else: the address holds the key."""
    content = json.dumps({"address": address, "pid": os.getpid()}) + "\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    temporary.rename(path)


def _version() -> str:
    try:
        return version("portway")
    except PackageNotFoundError:
        return "0"
