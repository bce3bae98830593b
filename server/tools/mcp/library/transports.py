"""Three ways to a server, each a pair of streams of messages within limits."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import mcp_types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from portway.server.outbound.client import open_client
from portway.server.outbound.policy import OutboundPolicy
from portway.server.outbound.reading import BoundedStream
from portway.server.tools.mcp.stdio import MAX_LINE_BYTES, BoxProgram
from portway.server.tools.mcp.types import McpServer, Opened, Transport

_CONNECT_SECONDS = 15.0
# A stream of events may be silent for so long; the library then asks for it again.
_SILENCE_SECONDS = 300.0
_EVENT_STREAM = "text/event-stream"

# One to read messages from, one to write them to; the library has no public names for their types.
Streams = tuple[Any, Any]


@asynccontextmanager
async def over_http(server: McpServer, opened: Opened, policy: OutboundPolicy) -> AsyncIterator[Streams]:
    """Through the policy for requests to others; each message is bounded."""
    client = _client(opened, policy)
    if server.spec.transport is Transport.SSE:

        def use(
            headers: dict[str, str] | None = None,
            timeout: httpx2.Timeout | None = None,
            auth: httpx2.Auth | None = None,
        ) -> httpx2.AsyncClient:
            return client

        async with sse_client(server.spec.url, httpx_client_factory=use) as streams:
            yield streams
        return
    async with client:
        async with streamable_http_client(
            server.spec.url, http_client=client, max_sse_event_size=MAX_LINE_BYTES
        ) as streams:
            yield streams


def _client(opened: Opened, policy: OutboundPolicy) -> httpx2.AsyncClient:
    # A stream of events may be long in all; one event may not, and neither may any other answer.
    endless = dataclasses.replace(policy, max_response_bytes=0, total_timeout=0, read_timeout=_SILENCE_SECONDS)
    client = open_client(endless)
    client.headers.update(opened.headers)
    client.event_hooks = {"response": [_bound(min(policy.max_response_bytes or MAX_LINE_BYTES, MAX_LINE_BYTES))]}
    return client


def _bound(limit: int):  # type: ignore[no-untyped-def]  # the type of a hook is not named by the library
    async def hook(response: httpx2.Response) -> None:
        if not response.headers.get("content-type", "").lower().startswith(_EVENT_STREAM):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = BoundedStream(response.stream, "", limit, None)

    return hook


@asynccontextmanager
async def over_a_program(program: BoxProgram) -> AsyncIterator[Streams]:
    """Lines of a program in the box. What is no message reaches the session as an exception and is left out."""
    await program.start()
    to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)

    async def read() -> None:
        async with to_session:
            async for line in program.lines():
                await to_session.send(_message(line))

    async def write() -> None:
        async for message in from_session:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            await program.write(text.encode())

    try:
        async with to_session, incoming, outgoing, from_session, anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(write)
            yield incoming, outgoing
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await program.stop()


def _message(line: bytes) -> SessionMessage | Exception:
    try:
        return SessionMessage(mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValidationError:
        return ValueError("a line is no message")
