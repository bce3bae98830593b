"""A real MCP server on the library's own server side, for tests: over HTTP in a process of its own, or over stdio.

`python server_program.py http|sse PORT-FILE COUNT-FILE`; each call of `count` leaves a line in COUNT-FILE.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp_types import ToolAnnotations

mode, port_file, count_file = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
# In a sandbox, the next session may be another user.
os.umask(0)
server = MCPServer("tests")


def note(word: str) -> None:
    """What happened, on disk before anybody hears of it."""
    with count_file.open("a") as file:
        file.write(f"{word}\n")


@server.tool()
async def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@server.tool()
async def count(word: str, wait: bool = False) -> str:
    """Has an effect."""
    note(word)
    if wait:
        try:
            await asyncio.Event().wait()
        finally:
            note("cancelled")
    return f"counted {word}"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def look() -> str:
    """Changes nothing."""
    return "seen"


@server.tool()
async def slow(ctx: Context) -> str:
    """Tells how far it is."""
    await ctx.report_progress(1, 2, "half")
    return "done"


@server.tool()
async def picture() -> Any:
    """Makes an image."""
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    return ["look:", Image(data=base64.b64decode(png), format="png")]


@server.tool()
async def fail() -> str:
    """Fails."""
    raise ValueError("it did not work")


@server.tool()
async def big(size: int) -> str:
    """A long text."""
    return "x" * size


@server.tool()
async def die() -> str:
    """Ends the process in the middle of the call."""
    note("die")
    os._exit(3)


@server.tool()
async def grow(ctx: Context) -> str:
    """Adds a tool and says so."""
    server.add_tool(look, name="grown", description="New.")
    await ctx.session.send_tool_list_changed()
    await ctx.notify_tools_changed()
    return "grown"


def main() -> None:
    if mode == "stdio":
        server.run("stdio")
        return
    app = server.streamable_http_app() if mode == "http" else server.sse_app()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(port_file.read_text()) if port_file.exists() else 0))
    # Whoever reads the file may connect at once.
    listener.listen(128)
    port_file.with_suffix(".new").write_text(str(listener.getsockname()[1]))
    port_file.with_suffix(".new").rename(port_file)
    uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)).run(sockets=[listener])


main()
