"""Whatever is killed amid a call of a run's bridge: nothing of it is left, and what was left lying opens nothing."""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from portway.clients.host import Finished, Portway
from portway.v1 import run_pb2
from tests.e2e.stack import Stack, started
from tests.sandbox import needs_sandbox
from tests.waiting import until, until_told

pytestmark = [pytest.mark.heavy, needs_sandbox]

PROGRAM = r"""
import glob, json, os, sys, urllib.error, urllib.request
def ask(server, known, message):
    request = urllib.request.Request(server["url"], json.dumps({"jsonrpc": "2.0", **message}).encode(), known)
    try:
        with urllib.request.urlopen(request) as answer:
            known["mcp-session-id"] = answer.headers["mcp-session-id"] or known.get("mcp-session-id", "")
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
def begin(server, url):
    known = {"content-type": "application/json", "accept": "application/json, text/event-stream", **server["headers"]}
    about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    return known, ask({"url": url}, known, {"id": 1, "method": "initialize", "params": about})[0]
own = json.load(open(os.environ["AGENT_MCP_CONFIG"]))["mcpServers"]["portway"]
if sys.stdin.read() == "hold":
    known, _ = begin(own, own["url"])
    call = {"name": "tool_call", "arguments": {"name": "exec", "arguments": {"command": "true"}}}
    print(ask(own, known, {"id": 2, "method": "tools/call", "params": call}))
else:
    others = [one for one in glob.glob("/workspace/.harness/runs/*/mcp.json") if one != os.environ["AGENT_MCP_CONFIG"]]
    servers = [json.load(open(one))["mcpServers"]["portway"] for one in others]
    print(json.dumps({
        "sockets": len(os.listdir("/run/portway")),
        "own": begin(own, own["url"])[1],
        "others": [begin(one, own["url"])[1] for one in servers],
    }))
"""


@asynccontextmanager
async def asking(folder: Path, marker: str) -> AsyncIterator[Stack]:
    agent = {
        "agent_id": "asking",
        "name": "asking",
        "runner_id": "plugin:portway/exec/default",
        "config": {"command": json.dumps(["/usr/bin/python3", "-c", PROGRAM, marker]), "models": False},
        "box_policy": {"tools": ["exec"], "session_template": "{launcher_type}"},
        # A call of it waits for a person, so that what is killed is killed amid it.
        "resource_policy": {"approved_tools": ["exec"]},
    }
    settings = {
        "agents": [agent],
        "bindings": [{"binding_id": "all", "scope": "BINDING_SCOPE_GLOBAL", "agent_id": "asking"}],
    }
    async with started(folder, config=json.dumps(settings)) as stack:
        yield stack


def programs(marker: str) -> list[int]:
    """What has the marker in its command line, on the whole machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in words:
                found.append(int(entry.name))
    return found


async def test_whatever_is_killed_amid_a_call_nothing_of_the_bridge_is_left(tmp_path: Path) -> None:
    marker = f"asking-{uuid.uuid4().hex[:12]}"
    lying: list[int] = []
    async with asking(tmp_path, marker) as stack:
        for victim in ("runtime", "host", "box", ""):
            async with stack.client() as host:
                begun = await host.send("hold", conversation_id=uuid.uuid4().hex, agent_id="asking")

                async def waits(run_id: str = begun.run_id) -> bool:
                    async with stack.client() as asked:
                        return (await asked.runs.get(run_id)).state == run_pb2.RUN_STATE_WAITING

                await until_told(waits)
            if victim:
                old = await stack.kill(victim)
                await stack.restarted(victim, old)
            else:
                async with stack.client() as host:
                    await host.runs.cancel(begun.run_id)
            async with stack.client() as host:
                async for _ in host.runs.watch(begun.run_id):
                    pass
                ended = (await host.runs.get(begun.run_id)).state
                assert ended in (run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELLED), (victim, ended)
                await until(lambda: not programs(marker))
                found = await _look(host)
                # Its own socket and no other; tokens that were left lying open nothing.
                assert found["sockets"] == 1 and found["own"] == 200, (victim, found)
                assert set(found["others"]) <= {401}, (victim, found)
                lying += found["others"]
        # There were some: a killed runtime removes no files, the next day's run does.
        assert lying
        assert "pw_bridge_" not in (tmp_path / "up.log").read_text(encoding="utf-8")


async def _look(host: Portway) -> dict[str, Any]:
    async for item in host.chat("look", conversation_id=uuid.uuid4().hex, agent_id="asking"):
        if isinstance(item, Finished):
            assert item.reply is not None, item.run.error
            found: dict[str, Any] = json.loads(item.reply.content)
            return found
    raise AssertionError("the run has no end")
