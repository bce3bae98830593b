"""The connection to one MCP server: made, kept, made again with growing pauses, and its tools kept in the registry."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import structlog

from portway.rpc.errors import Conflict, PortwayError, Reason, Unavailable, WrongState
from portway.rpc.redaction import redact_text
from portway.server.tools.mcp.connect import Ways, connected, refusal_of
from portway.server.tools.mcp.keep import McpSecrets
from portway.server.tools.mcp.peer import Peer
from portway.server.tools.mcp.source import McpTools, offered
from portway.server.tools.mcp.types import ConnectionState, ConnectionStatus, McpServer, Transport
from portway.server.tools.registry import ToolRegistry
from portway.server.tools.types import Availability

HEARTBEAT_SECONDS = 20.0
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
# A connection that held so long was a good one: the pauses begin anew.
GOOD_SECONDS = 30.0
MAX_REASON = 500


class Connection:
    """Run `serve` as a task of its own; it never ends by itself."""

    def __init__(self, server: McpServer, secrets: McpSecrets, ways: Ways, registry: ToolRegistry) -> None:
        self.server = server
        self.status = ConnectionStatus(ConnectionState.CONNECTING)
        self.settled = asyncio.Event()
        """The first try has ended, well or badly."""
        self._secrets = secrets
        self._ways = ways
        self._registry = registry
        self._peer: Peer | None = None
        self._wanted = asyncio.Event()
        self._tried = asyncio.Event()
        self._log = structlog.get_logger("portway.host.mcp")

    async def serve(self) -> None:
        pause = FIRST_PAUSE
        try:
            while True:
                began = asyncio.get_running_loop().time()
                self._wanted.clear()
                if self.status.state is ConnectionState.CONNECTED:
                    self.status = replace(self.status, state=ConnectionState.CONNECTING)
                try:
                    await self._hold()
                    continue
                except Exception as error:  # noqa: BLE001 - a supervisor: whatever a server does is a state of it
                    self._failed(error)
                self._end_of_try()
                if asyncio.get_running_loop().time() - began > GOOD_SECONDS:
                    pause = FIRST_PAUSE
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), pause * random.uniform(0.7, 1.0))
                    pause = FIRST_PAUSE
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self._peer = None
            self._registry.remove(self.server.source_id, self.server.workspace_id)

    async def refresh(self) -> None:
        """Connects anew and reads the tools. Raises Unavailable with what went wrong."""
        tried = self._tried
        if self.settled.is_set():
            self._wanted.set()
        await tried.wait()
        if self.status.state is not ConnectionState.CONNECTED:
            raise Unavailable(
                f"the MCP server {self.server.server_id!r} is {self.status.state}: {self.status.reason}",
                reason=Reason.TOOL_UNAVAILABLE,
            )

    def availability(self) -> Availability:
        status = self.status
        if status.state is ConnectionState.CONNECTED:
            return Availability(True)
        why = status.reason or "it is being connected to"
        return Availability(False, f"the MCP server {self.server.server_id!r} is {status.state}: {why}")

    async def _hold(self) -> None:
        """One connection, until somebody wants it anew; it raises why it ended otherwise."""
        opened = await self._secrets.open(self.server)
        async with connected(self.server, opened, self._ways) as peer:
            await self._read(peer)
            self._peer = peer
            self._end_of_try()
            self._log.info("an MCP server is connected", server=self.server.server_id, tools=self.status.tool_count)
            try:
                await self._watch(peer)
            finally:
                self._peer = None

    async def _watch(self, peer: Peer) -> None:
        """Until it breaks, or somebody wants it anew."""
        events = (peer.broken, peer.tools_changed, self._wanted)
        while not peer.broken.is_set() and not self._wanted.is_set():
            waiting = [asyncio.ensure_future(event.wait()) for event in events]
            try:
                await asyncio.wait(waiting, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in waiting:
                    one.cancel()
            if peer.tools_changed.is_set():
                peer.tools_changed.clear()
                await self._read(peer)
            elif not any(event.is_set() for event in events):
                await peer.ping()
        if peer.broken.is_set():
            raise Unavailable("the connection broke")

    async def _read(self, peer: Peer) -> None:
        specs, problems = offered(self.server, await peer.list_tools())
        try:
            source = McpTools(self.server, specs, self._current, self.availability)
            self._registry.replace(source, self.server.workspace_id)
        except Conflict as error:
            raise WrongState(error.message) from error
        self.status = ConnectionStatus(
            ConnectionState.CONNECTED,
            tool_count=len(specs),
            problems=tuple(problems),
            protocol_version=peer.protocol_version,
        )

    def _current(self) -> Peer:
        if self._peer is None:
            raise WrongState(self.availability().reason, reason=Reason.TOOL_UNAVAILABLE)
        return self._peer

    def _failed(self, error: Exception) -> None:
        reason = reason_of(error)
        away = self.server.spec.transport is Transport.STDIO and not self._ways.box_state().available
        state = ConnectionState.UNAVAILABLE if away else ConnectionState.FAILED
        if (state, reason) != (self.status.state, self.status.reason):
            self._log.warning("an MCP server cannot be used", server=self.server.server_id, reason=reason)
        self.status = replace(self.status, state=state, reason=reason)

    def _end_of_try(self) -> None:
        self.settled.set()
        tried, self._tried = self._tried, asyncio.Event()
        tried.set()


def reason_of(error: BaseException) -> str:
    """What a person should read; secrets that a library put into its text are taken out."""
    refusal = refusal_of(error)
    if refusal is not None:
        return refusal.message
    leaves = list(_leaves(error))
    chosen = next((one for one in leaves if isinstance(one, PortwayError)), leaves[0])
    if isinstance(chosen, PortwayError):
        return redact_text(chosen.message)[:MAX_REASON]
    text = redact_text(str(chosen)) or "it gave no reason"
    return f"{type(chosen).__name__}: {text}"[:MAX_REASON]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
