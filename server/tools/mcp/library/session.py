"""A session with a server: versions are agreed on, tools are listed and called, and what it asks of us is declined."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import mcp_types
from mcp.client.session import ClientSession, IncomingMessage
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost, listen
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from portway.rpc.errors import DeadlineExceeded, InvalidInput, Reason, Unavailable, WrongState
from portway.server.tools.mcp.library.results import result_of
from portway.server.tools.mcp.library.transports import Streams
from portway.server.tools.mcp.peer import Listing, RemoteTool
from portway.server.tools.types import JsonObject, ToolEvent, ToolProgress, ToolResult

HANDSHAKE_SECONDS = 20.0
LIST_SECONDS = 30.0
PING_SECONDS = 10.0
MAX_PAGES = 100
MAX_TOOLS = 500
MAX_LISTING_BYTES = 4 * 1024 * 1024
MAX_PROGRESS_WAITING = 64
MAX_ERROR_TEXT = 4_000

# The library logs what servers send; nobody asked for that in the host's log.
logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)


class _Session(ClientSession):
    async def validate_tool_result(self, name: str, result: mcp_types.CallToolResult) -> None:
        """Not by the library: a schema of a stranger can make its check take forever."""


class LibraryPeer:
    """Implements `Peer`."""

    def __init__(self, session: ClientSession, broken: asyncio.Event, tools_changed: asyncio.Event) -> None:
        self._session = session
        self.broken = broken
        self.tools_changed = tools_changed
        self.protocol_version = session.protocol_version or ""

    async def list_tools(self) -> Listing:
        try:
            async with asyncio.timeout(LIST_SECONDS):
                return await self._list()
        except TimeoutError:
            raise Unavailable(f"its list of tools did not come within {LIST_SECONDS:g} s") from None
        except MCPError as error:
            raise Unavailable(f"it did not list its tools: {_said(error)}") from error
        except ValidationError as error:
            raise InvalidInput(f"its list of tools is not readable: {_first(error)}") from error

    async def _list(self) -> Listing:
        found: list[RemoteTool] = []
        size, seen = 0, set[str]()
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            params = mcp_types.PaginatedRequestParams(cursor=cursor) if cursor is not None else None
            page = await self._session.list_tools(params=params)
            for tool in page.tools:
                size += len(tool.model_dump_json())
                if len(found) >= MAX_TOOLS:
                    return Listing(tuple(found), f"it has more than {MAX_TOOLS} tools; the rest is left out")
                if size > MAX_LISTING_BYTES:
                    text = f"its tools take more than {MAX_LISTING_BYTES} bytes; the rest is left out"
                    return Listing(tuple(found), text)
                found.append(_tool(tool))
            cursor = page.next_cursor
            if cursor is None:
                return Listing(tuple(found))
            if cursor in seen:
                return Listing(tuple(found), "its list of tools goes in circles")
            seen.add(cursor)
        return Listing(tuple(found), f"its list of tools has more than {MAX_PAGES} pages; the rest is left out")

    async def call(self, name: str, arguments: JsonObject, seconds: float) -> AsyncGenerator[ToolEvent, None]:
        reports: asyncio.Queue[ToolProgress] = asyncio.Queue(MAX_PROGRESS_WAITING)

        async def report(progress: float, total: float | None, message: str | None) -> None:
            fraction = min(1.0, max(0.0, progress / total)) if total else None
            with suppress(asyncio.QueueFull):
                reports.put_nowait(ToolProgress((message or "")[:1000], fraction))

        calling = asyncio.ensure_future(self._call(name, arguments, seconds, report))
        # The library may leave a call waiting whose connection has crashed.
        breaking = asyncio.ensure_future(self.broken.wait())
        try:
            while not calling.done():
                waiting = asyncio.ensure_future(reports.get())
                await asyncio.wait({calling, waiting, breaking}, return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    yield waiting.result()
                    continue
                waiting.cancel()
                if breaking.done() and not calling.done():
                    raise _broke()
            yield calling.result()
        finally:
            # Cancelling tells the server that nobody waits any more.
            calling.cancel()
            breaking.cancel()
            await asyncio.gather(calling, breaking, return_exceptions=True)

    async def _call(self, name: str, arguments: JsonObject, seconds: float, report: ProgressFnT) -> ToolResult:
        try:
            async with asyncio.timeout(seconds):
                answer = await self._session.call_tool(
                    name,
                    dict(arguments),
                    progress_callback=report,
                    allow_input_required=True,
                )
        except TimeoutError:
            raise DeadlineExceeded(f"the server did not answer within {seconds:g} s; it may have acted") from None
        except MCPError as error:
            return self._refused(error)
        except ValidationError as error:
            return ToolResult(f"the server's answer is not readable: {_first(error)}", is_error=True)
        if isinstance(answer, mcp_types.InputRequiredResult):
            return ToolResult("the server asks for more input, which is declined here", is_error=True)
        return result_of(answer)

    def _refused(self, error: MCPError) -> ToolResult:
        if error.code == mcp_types.INVALID_REQUEST and error.message == "Session terminated":
            self.broken.set()
            raise WrongState(
                "the server has forgotten the session, so nothing was done; it is connected to again",
                reason=Reason.TOOL_UNAVAILABLE,
            ) from error
        if error.code in (mcp_types.CONNECTION_CLOSED, mcp_types.REQUEST_TIMEOUT):
            self.broken.set()
            raise _broke() from error
        return ToolResult(_said(error), {"code": error.code}, is_error=True)

    async def ping(self) -> None:
        try:
            async with asyncio.timeout(PING_SECONDS):
                if self.protocol_version in MODERN_PROTOCOL_VERSIONS:
                    await self._session.send_discover(self.protocol_version)
                else:
                    await self._session.send_ping()
        except TimeoutError:
            raise Unavailable(f"it did not answer a ping within {PING_SECONDS:g} s") from None
        except MCPError as error:
            if error.code != mcp_types.METHOD_NOT_FOUND:
                raise Unavailable(f"it did not answer a ping: {_said(error)}") from error


@asynccontextmanager
async def open_session(streams: Streams) -> AsyncIterator[LibraryPeer]:
    """Agrees on a version and gives the peer. Raises Unavailable; what the transport raises comes through a group."""
    broken, changed = asyncio.Event(), asyncio.Event()

    async def notice(message: IncomingMessage) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            changed.set()

    info = mcp_types.Implementation(name="portway", version="1")
    async with AsyncExitStack() as stack:
        # No callbacks are given: sampling, elicitation and roots are not offered, and declined where asked for.
        session = await stack.enter_async_context(_Session(*streams, message_handler=notice, client_info=info))
        # A program may still answer what a host before this one asked: no number is used again.
        session._dispatcher._next_id = secrets.randbelow(1 << 40)  # type: ignore[attr-defined]  # the library has no way
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await _negotiate(session)
        except TimeoutError:
            raise Unavailable(f"it did not agree on a version within {HANDSHAKE_SECONDS:g} s") from None
        except (MCPError, RuntimeError, ValidationError) as error:
            raise Unavailable(f"no version was agreed on: {_told(error)}") from error
        watching = asyncio.ensure_future(_watch(session, changed))
        try:
            yield LibraryPeer(session, broken, changed)
        finally:
            broken.set()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _negotiate(session: ClientSession) -> None:
    """The newest way of agreeing first, then the handshake that older servers know."""
    try:
        await session.discover()
    except (MCPError, RuntimeError, ValidationError):
        await session.initialize()


async def _watch(session: ClientSession, changed: asyncio.Event) -> None:
    """Newer servers tell of changes only to who listens; older ones tell by themselves."""
    with suppress(ListenNotSupportedError, MCPError, SubscriptionLost, TimeoutError):
        async with listen(session, tools_list_changed=True) as events:
            async for _ in events:
                changed.set()


def _tool(tool: mcp_types.Tool) -> RemoteTool:
    hints = tool.annotations
    return RemoteTool(
        name=tool.name,
        description=tool.description or tool.title or "",
        input_schema=tool.input_schema,
        read_only=bool(hints and hints.read_only_hint),
        idempotent=bool(hints and hints.idempotent_hint),
    )


def _broke() -> Unavailable:
    return Unavailable("the connection to the server broke; it may have acted")


def _said(error: MCPError) -> str:
    return f"{error.message[:MAX_ERROR_TEXT]} (code {error.code})"


def _told(error: Exception) -> str:
    if isinstance(error, MCPError):
        return _said(error)
    return _first(error) if isinstance(error, ValidationError) else str(error)[:500]


def _first(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])[:200]}: {first['msg'][:300]}"
