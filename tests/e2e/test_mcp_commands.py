"""`portway tool` and `portway mcp` through the real program, with a real MCP server."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.stack import started
from tests.server.tools.mcp.http_server import http_server


async def test_servers_are_added_tested_shown_and_removed(tmp_path: Path) -> None:
    with http_server(tmp_path / "mcp", "http") as server:
        await server.start()
        (tmp_path / "up").mkdir()
        config = "outbound: {private_addresses: true}\n"
        async with started(tmp_path / "up", config=config) as stack:
            tools = await stack.portway("tool", "list")
            assert tools.code == 0 and "exec" in tools.out
            shown = await stack.portway("tool", "show", "exec")
            assert json.loads(shown.out)["name"] == "exec"
            missing = await stack.portway("mcp", "add", "tests", "--url", server.url, "--header-env", "X-Key=NOT_SET")
            assert missing.code == 2 and "NOT_SET" in missing.err
            added = await stack.portway("mcp", "add", "tests", "--url", server.url)
            assert added.code == 0, added.err
            tested = await stack.portway("mcp", "test", "tests")
            assert tested.code == 0 and "mcp:tests/add" in tested.out.split()
            listed = await stack.portway("mcp", "list")
            assert "connected" in listed.out and server.url in listed.out
            of_it = await stack.portway("tool", "list", "--kind", "mcp", "--json")
            assert "mcp:tests/add" in of_it.out
            server.kill()
            failed = await stack.portway("mcp", "test", "tests")
            assert failed.code == 1 and "failed" in failed.err
            removed = await stack.portway("mcp", "remove", "tests")
            assert removed.code == 0
            gone = await stack.portway("mcp", "show", "tests")
            assert gone.code != 0 and "tests" in gone.err
