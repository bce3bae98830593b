"""What an MCP server is to the host once a connection stands, in plain types."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from portway.server.tools.types import JsonObject, ToolEvent


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool as its server describes it. The two hints are the server's own word."""

    name: str
    description: str
    input_schema: JsonObject
    read_only: bool
    idempotent: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """All tools, or the first ones where `cut_off` says why."""

    tools: tuple[RemoteTool, ...]
    cut_off: str = ""


class Peer(Protocol):
    """A server that has agreed on a version. `broken` is set when calls make no more sense, `tools_changed` when the
    server says that its tools are others."""

    protocol_version: str
    broken: asyncio.Event
    tools_changed: asyncio.Event

    async def list_tools(self) -> Listing:
        """Raises Unavailable, InvalidInput (it is not readable)."""

    def call(self, name: str, arguments: JsonObject, seconds: float) -> AsyncGenerator[ToolEvent, None]:
        """`ToolResult` is the last event. Raises WrongState (TOOL_UNAVAILABLE: it was not made), Unavailable and
        DeadlineExceeded (it may have been made)."""

    async def ping(self) -> None:
        """Raises Unavailable."""
