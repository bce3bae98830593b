"""Agents of the Agent Client Protocol that others wrote, in a box session without network: the adapter of Claude Code
with the mock of the vendors as its provider behind the gateway, and the example of the protocol's own SDK."""

import asyncio
import json
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from portway.clients.host import Accepted, Finished, Portway
from portway.clients.run_view import ToolDone
from portway.v1 import run_pb2
from tests.deciding import decide, one_pending_of
from tests.e2e.stack import Stack, started
from tests.peers.aimock import Aimock, start_aimock
from tests.peers.npm import ACP_AGENTS, installed_peers
from tests.sandbox import needs_sandbox
from tests.waiting import until

pytestmark = [pytest.mark.heavy, needs_sandbox]

FIXTURES = Path(__file__).parent / "harnesses" / "acp_models.json"
CLAUDE = "/opt/agent/node_modules/@zed-industries/claude-code-acp/dist/index.js"
EXAMPLE = "/opt/agent/node_modules/@agentclientprotocol/sdk/dist/examples/agent.js"
RUNNER = "plugin:portway/acp/default"


@dataclass(frozen=True, slots=True)
class Real:
    stack: Stack
    mock: Aimock

    async def end(self, host: Portway, accepted: Accepted) -> tuple[run_pb2.Run, str]:
        """The run at its end, and the last item of its conversation."""
        async for _ in host.runs.watch(accepted.run_id):
            pass
        run = await host.runs.get(accepted.run_id)
        return run, (await host.history(accepted.conversation_id)).items[-1].content


def working(marker: bytes) -> list[str]:
    """Processes of the machine whose command lines have the marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if marker in words:
                found.append(words.decode(errors="replace"))
    return found


@asynccontextmanager
async def real(folder: Path) -> AsyncIterator[Real]:
    source = folder / "programs"
    modules = await asyncio.to_thread(installed_peers, ACP_AGENTS) / "node_modules"
    await asyncio.to_thread(_placed, modules, source)
    policy = {
        "tools": ["exec"],
        "session_template": "{conversation_id}",
        "mounts": [{"source": str(source), "target": "/opt/agent"}],
    }
    variants: dict[str, tuple[str, dict[str, object]]] = {
        "claude": (CLAUDE, {"permissions": "ask"}),
        "claude-reject": (CLAUDE, {}),
        "claude-allow": (CLAUDE, {"permissions": "allow"}),
        "example": (EXAMPLE, {"permissions": "ask", "models": False}),
        "example-allow": (EXAMPLE, {"permissions": "allow", "models": False}),
    }
    agents = [
        {
            "agent_id": name,
            "name": name,
            "runner_id": RUNNER,
            "config": {"command": f"/opt/agent/node\n{script}", "timeout_seconds": 120, **config},
            "box_policy": policy,
        }
        for name, (script, config) in variants.items()
    ]
    async with start_aimock(FIXTURES) as mock:
        provider = {
            "kind": "anthropic",
            "base_url": mock.base_url,
            "api_key": mock.api_key,
            "models": [{"id": "mocked", "name": "some-model"}],
        }
        settings = {
            "models": {"default": "mocked", "providers": {"mock": provider}},
            "agents": agents,
            "bindings": [{"binding_id": "all", "scope": "BINDING_SCOPE_GLOBAL", "agent_id": "claude"}],
            "box": {"mount_roots": [str(source)], "profiles": {"default": {"memory_bytes": 2 << 30}}},
        }
        async with started(folder, config=json.dumps(settings)) as stack:
            yield Real(stack, mock)


def _placed(modules: Path, target: Path) -> None:
    """By links where the file system lets: the programs have hundreds of megabytes."""

    def link(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)

    shutil.copytree(modules, target / "node_modules", copy_function=link)
    link(os.path.realpath(shutil.which("node") or ""), str(target / "node"))
    for one in (target, *target.parents[:4]):
        one.chmod(one.stat().st_mode | 0o055)


async def said(host: Portway, agent: str, text: str, talk: str) -> tuple[Finished, list[str]]:
    tools = []
    async for item in host.chat(text, conversation_id=talk, agent_id=agent):
        match item:
            case ToolDone():
                tools.append(item.call.tool)
            case Finished():
                return item, tools
    raise AssertionError("the run has no end")


async def test_the_adapter_of_claude_code_talks_asks_and_loads_its_session(tmp_path: Path) -> None:
    async with real(tmp_path) as here, here.stack.client() as host:
        talk = uuid.uuid4().hex
        first, _ = await said(host, "claude", "say hello", talk)
        assert first.run.state == run_pb2.RUN_STATE_COMPLETED, first.run.error
        assert first.reply is not None and first.reply.content == "Hello from the mock."
        second, _ = await said(host, "claude", "and again", talk)
        assert second.reply is not None and second.reply.content == "Hello again from the mock.", second.run.error
        asked = json.dumps(await here.mock.requests())
        # The second message came with the first one: the agent had loaded its session.
        assert "say hello" in asked.rpartition("and again")[0]
        for approve in (True, False):
            begun = await host.send("use a tool", conversation_id=uuid.uuid4().hex, agent_id="claude")
            approval = await one_pending_of(host.runs.stub, begun.run_id)
            assert "made.txt" in str(approval.details), approval
            await decide(host.runs.stub, approval, approve=approve)
            run, text = await here.end(host, begun)
            if approve:
                assert (run.state, text) == (run_pb2.RUN_STATE_COMPLETED, "The command was answered."), run.error
            else:  # This agent ends its turn there, without a word.
                assert run.error.code == "harness.empty_output" and "refused" in run.error.message, run.error
        allowed, tools = await said(host, "claude-allow", "use a tool", uuid.uuid4().hex)
        assert allowed.reply is not None and allowed.reply.content == "The command was answered.", allowed.run.error
        assert tools, "the tool is shown"
        refused, _ = await said(host, "claude-reject", "use a tool", uuid.uuid4().hex)
        assert "config.permissions is reject" in refused.run.error.message
        assert here.mock.api_key not in (tmp_path / "up.log").read_text(encoding="utf-8")


async def test_a_cancel_ends_the_adapter_its_program_and_its_tools(tmp_path: Path) -> None:
    async with real(tmp_path) as here, here.stack.client() as host:
        begun = await host.send("take your time", conversation_id=uuid.uuid4().hex, agent_id="claude-allow")
        await until(lambda: bool(working(b"sleep\0003599")))
        assert working(b"claude-code-acp/dist/index.js")
        await host.runs.cancel(begun.run_id)
        run, _ = await here.end(host, begun)
        assert run.state == run_pb2.RUN_STATE_CANCELLED
        await until(lambda: not working(b"sleep\0003599") and not working(b"claude-code-acp/dist/index.js"))
        waiting = await host.send("use a tool", conversation_id=uuid.uuid4().hex, agent_id="claude")
        await one_pending_of(host.runs.stub, waiting.run_id)
        assert working(b"claude-code-acp/dist/index.js")
        await host.runs.cancel(waiting.run_id)
        assert (await here.end(host, waiting))[0].state == run_pb2.RUN_STATE_CANCELLED
        await until(lambda: not working(b"claude-code-acp/dist/index.js"))


async def test_the_example_of_the_protocols_own_library(tmp_path: Path) -> None:
    async with real(tmp_path) as here, here.stack.client() as host:
        allowed, tools = await said(host, "example-allow", "change it", uuid.uuid4().hex)
        assert allowed.reply is not None and "successfully updated" in allowed.reply.content, allowed.run.error
        assert tools == ["Reading project files", "Modifying critical configuration file"]
        begun = await host.send("change it", conversation_id=uuid.uuid4().hex, agent_id="example")
        approval = await one_pending_of(host.runs.stub, begun.run_id)
        assert approval.title == "edit: Modifying critical configuration file"
        await decide(host.runs.stub, approval, approve=False)
        run, text = await here.end(host, begun)
        assert run.state == run_pb2.RUN_STATE_COMPLETED and "skip the configuration update" in text
