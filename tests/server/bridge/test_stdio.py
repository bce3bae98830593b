"""Clients that speak over standard streams, and the official TypeScript client over both ways."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client

from portway.runtime.harness.mcp import McpServer, bridge_server
from portway.runtime.harness.places import BridgeWay
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.peers.npm import installed_peers
from tests.server.bridge.clients import a_call, a_request, initialize, url_of
from tests.server.bridge.scripted_tools import ScriptedTools
from tests.server.hosting import Hosted
from tests.server.playing import played
from tests.waiting import until

SCRIPT = Path(__file__).parent / "client.mjs"


def shim(run: FakeRun, folder: Path, token: str = "", url: str = "", python: str = sys.executable) -> McpServer:
    """What a harness is given on a machine, with its files."""
    way = BridgeWay(url or url_of(run), python=python)
    server = bridge_server(way, token or run.start.bridge_token, str(folder))
    for path, data in server.files.items():
        assert isinstance(data, bytes)
        Path(path).write_bytes(data)
    return server


class Spoken:
    """The shim, spoken to line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def say(self, *lines: object) -> None:
        assert self.process.stdin is not None
        for one in lines:
            self.process.stdin.write(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n")
        await self.process.stdin.drain()

    async def hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(await asyncio.wait_for(self.process.stdout.readline(), 30))

    async def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return await asyncio.wait_for(self.process.wait(), 30)


async def spoken(server: McpServer) -> Spoken:
    process = await asyncio.create_subprocess_exec(
        *server.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    return Spoken(process)


async def test_the_official_client_over_standard_streams(
    host: Hosted, runtime: FakeRuntime, tools: ScriptedTools, tmp_path: Path
) -> None:
    async def script(run: FakeRun) -> None:
        server = shim(run, tmp_path)
        # Everybody can read arguments.
        assert run.start.bridge_token not in " ".join(server.command) and not server.environment
        given = StdioServerParameters(command=server.command[0], args=list(server.command[1:]))
        seen: list[float] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            seen.append(progress)
            if len(seen) >= 4:
                tools.go_on.set()

        async with stdio_client(given) as (read, write), ClientSession(read, write) as client:
            await client.initialize()
            assert len((await client.list_tools()).tools) == 6 + len(tools.names)
            answer = await client.call_tool("tests_tools_slow", {}, progress_callback=note)
            assert answer.content[0].text == "slow, and done"  # type: ignore[union-attr]  # it is a text
            tools.go_on.clear()
            calling = asyncio.create_task(client.call_tool("tests_tools_hold", {}))
            await until(lambda: len(tools.calls) == 2)
            calling.cancel()
            await until(lambda: len(tools.ended) == 2)
            scope = host.parts.live.of_run("default", run.context.run_id).scope
            assert len(scope.bridge) == 1
        # Its session ends with it.
        await until(lambda: len(scope.bridge) == 0)

    await played(host, runtime, script)


async def test_what_goes_wrong_is_told_over_standard_streams(
    host: Hosted, runtime: FakeRuntime, tools: ScriptedTools, tmp_path: Path
) -> None:
    left: list[Spoken] = []

    async def script(run: FakeRun) -> None:
        wrong = await spoken(shim(run, tmp_path, token="pw_bridge_nonsense"))
        await wrong.say(initialize())
        assert "token" in (await wrong.hear())["error"]["message"]
        assert await wrong.end() == 0
        nowhere = await spoken(shim(run, tmp_path, url="http://127.0.0.1:9/mcp"))
        await nowhere.say(initialize())
        assert "cannot be reached" in (await nowhere.hear())["error"]["message"]
        assert await nowhere.end() == 0
        good = await spoken(shim(run, tmp_path, python=""))
        await good.say(initialize(), b"\n", b"{nonsense\n", b"x" * 1_100_000 + b"\n")
        assert (await good.hear())["result"]["serverInfo"]["name"] == "portway"
        assert "at most" in (await good.hear())["error"]["message"]
        await good.say(a_request("ping", "p"), a_call("tests_tools_hold", 7))
        assert (await good.hear())["id"] == "p"
        await until(lambda: bool(tools.calls))
        left.append(good)

    await played(host, runtime, script)
    # The run has ended amid its call.
    answer = await left[0].hear()
    assert answer["id"] == 7 and answer["error"]["data"]["reason"] == "RUN_FINISHED"
    await left[0].say(a_request("ping", "q"))
    assert (await left[0].hear())["error"]["message"].startswith("the bridge token is not valid")
    assert await left[0].end() == 0


async def test_without_python_it_says_what_it_needs(tmp_path: Path) -> None:
    server = bridge_server(BridgeWay("http://127.0.0.1:9/mcp"), "pw_bridge_x", str(tmp_path))
    process = await asyncio.create_subprocess_exec(
        *server.command, stderr=asyncio.subprocess.PIPE, env={"PATH": str(tmp_path)}
    )
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 127 and b"needs python3" in errors


@pytest.mark.heavy
@pytest.mark.parametrize("way", ["http", "stdio"])
async def test_the_official_typescript_client(
    host: Hosted, runtime: FakeRuntime, tools: ScriptedTools, tmp_path: Path, way: str
) -> None:
    modules = await asyncio.to_thread(installed_peers) / "node_modules"

    async def script(run: FakeRun) -> None:
        token = tmp_path / "token"
        token.write_text(run.start.bridge_token)
        given = (url_of(run), str(token)) if way == "http" else tuple(shim(run, tmp_path).command)
        sdk = modules / "@modelcontextprotocol" / "sdk"
        process = await asyncio.create_subprocess_exec(
            "node", str(SCRIPT), str(sdk), way, *given, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"far enough\n"
        tools.go_on.set()
        await until(lambda: len(tools.ended) == 1)
        tools.go_on.clear()
        said, _ = await asyncio.wait_for(process.communicate(), 60)
        found = json.loads(said)
        assert (found["server"], found["run"], found["slow"]) == ("portway", run.context.run_id, "slow, and done")
        assert len(found["tools"]) == 6 + len(tools.names) and found["progress"][:3] == [25, 50, 75]
        assert found["absent"].startswith("NOT_FOUND: ") and "enough" in found["cancelled"]
        await until(lambda: len(tools.ended) == len(tools.calls))

    await played(host, runtime, script)
