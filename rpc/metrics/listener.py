"""The listener of the page: one path, one method, one token. Small on purpose: a scraper needs no more, and runtime and
box shall not carry a web server for it."""

import asyncio
import hmac
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog

from portway.rpc.errors import WrongState
from portway.rpc.metrics.config import MetricsConfig
from portway.rpc.metrics.families import Source
from portway.rpc.metrics.page import Page
from portway.rpc.serving import TlsConfig
from portway.rpc.tokens import mint_token
from portway.rpc.transport import is_loopback

HEAD_BYTES = 8 * 1024
CONNECTIONS = 16
SECONDS = 10.0
PATH = "/metrics"
_SHORTEST_TOKEN = 16


@asynccontextmanager
async def show_metrics(config: MetricsConfig, tls: TlsConfig | None, sources: Sequence[Source]) -> AsyncIterator[str]:
    """Show the page while the block runs; the value is its URL, '' where metrics are off.

    Raises WrongState (address in use, plain text off loopback, unreadable token file).
    """
    if not config.listen or config.token_file is None:
        yield ""
        return
    if tls is None and not is_loopback(config.listen):
        raise WrongState(
            f"metrics would be shown on {config.listen}, which others reach, and the token would cross the network in "
            "plain text. Set the server's tls, or listen on 127.0.0.1."
        )
    await asyncio.to_thread(_ensure_token, config.token_file)
    door = _Door(Page(sources), config.token_file)
    host, _, port = config.listen.rpartition(":")
    try:
        server = await asyncio.start_server(
            door.serve, host.strip("[]"), int(port), limit=HEAD_BYTES, ssl=_context(tls) if tls else None
        )
    except OSError as error:
        raise WrongState(
            f"cannot show metrics on {config.listen} ({error.strerror}); choose another metrics.listen"
        ) from error
    url = f"{'https' if tls else 'http'}://{host}:{server.sockets[0].getsockname()[1]}{PATH}"
    structlog.get_logger("portway.metrics").info("metrics are shown", url=url)
    try:
        yield url
    finally:
        server.close()
        door.close()


class _Door:
    """Answers requests, each on a connection of its own."""

    def __init__(self, page: Page, token_file: Path) -> None:
        self._page = page
        self._token_file = token_file
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= CONNECTIONS:
            writer.close()
            return
        self._open.add(writer)
        try:
            async with asyncio.timeout(SECONDS):
                writer.write(await self._answer(await reader.readuntil(b"\r\n\r\n")))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Somebody who asks nothing, too much or too slowly.
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    def close(self) -> None:
        for writer in list(self._open):
            writer.close()

    async def _answer(self, head: bytes) -> bytes:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, _, rest = first.partition(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        token = await asyncio.to_thread(_read_token, self._token_file)
        given = headers.get("authorization", "")
        if not token or not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            # The same for every path: who may not read learns nothing.
            return _response(
                "401 Unauthorized", b"send the token of metrics.token_file\n", more="WWW-Authenticate: Bearer"
            )
        if rest.partition(" ")[0].partition("?")[0] != PATH:
            return _response("404 Not Found", b"there is only /metrics\n")
        if method != "GET":
            return _response("405 Method Not Allowed", b"only GET\n", more="Allow: GET")
        body, kind = await self._page.render(headers.get("accept", ""))
        return _response("200 OK", body, kind)


def _response(status: str, body: bytes, kind: str = "text/plain; charset=utf-8", more: str = "") -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
        *([more] if more else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _context(tls: TlsConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.client_ca)
    context.load_cert_chain(tls.certificate, tls.private_key)
    if tls.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _read_token(path: Path) -> str:
    """Read anew each time, so that a rotated one counts at once; '' lets nobody in."""
    with suppress(OSError, UnicodeDecodeError):
        token = path.read_text(encoding="ascii").strip()
        return token if len(token) >= _SHORTEST_TOKEN else ""
    return ""


def _ensure_token(path: Path) -> None:
    """Make the file where it is not there. Servers that start at once and share it agree on one."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            unfinished = path.with_name(f".{path.name}.{os.getpid()}")
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(mint_token("metrics").text + "\n")
            with suppress(FileExistsError):
                os.link(unfinished, path)
            unfinished.unlink()
        readable = bool(_read_token(path))
    except OSError as error:
        raise WrongState(f"the token of metrics cannot be kept in {path}: {error.strerror}") from error
    if not readable:
        raise WrongState(
            f"{path} holds no token for metrics of at least {_SHORTEST_TOKEN} characters; write one, or "
            "delete the file and a new one is made"
        )
