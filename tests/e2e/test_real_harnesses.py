"""Claude Code and Codex themselves in a box session, with the vendors' mock as the provider behind the gateway."""

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

from portway.clients.host import Finished, Portway
from portway.clients.run_view import ToolDone
from portway.v1 import run_pb2
from tests.e2e.stack import Stack, started
from tests.peers.aimock import Aimock, start_aimock
from tests.peers.npm import HARNESSES, installed_peers
from tests.sandbox import needs_sandbox
from tests.waiting import until

pytestmark = [pytest.mark.heavy, needs_sandbox]

FIXTURES = Path(__file__).parent / "harnesses" / "models.json"
PROGRAMS = {
    "claude": ("claude-code", "@anthropic-ai/claude-code-linux-x64", "claude"),
    "codex": ("codex", "@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl", "bin/codex"),
}
AGENTS = list(PROGRAMS)
FREE = {"claude": {"permission_mode": "default", "max_turns": 5, "allowed_tools": "Bash"}, "codex": {}}


@dataclass(frozen=True, slots=True)
class Real:
    stack: Stack
    mock: Aimock

    async def say(self, host: Portway, agent: str, text: str, talk: str) -> tuple[Finished, list[str]]:
        tools = []
        async for item in host.chat(text, conversation_id=talk, agent_id=agent):
            match item:
                case ToolDone():
                    tools.append(item.call.tool)
                case Finished():
                    return item, tools
        raise AssertionError("the run has no end")


def sleepers(marker: str = "sleep\0003599") -> list[str]:
    """What the programs' tools started, as the whole machine sees it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if marker in words:
                found.append(words)
    return found


@asynccontextmanager
async def real(folder: Path, kind: str) -> AsyncIterator[Real]:
    modules = await asyncio.to_thread(installed_peers, HARNESSES) / "node_modules"
    # Mounts must be open to every user, which a home directory is not.
    agents: list[dict[str, object]] = []
    for agent, (runner, package, program) in PROGRAMS.items():
        source = folder / "programs" / agent
        await asyncio.to_thread(_copied, modules / package, source)
        policy = {
            "tools": ["exec"],
            "session_template": "{conversation_id}",
            "mounts": [{"source": str(source), "target": f"/opt/{agent}"}],
        }
        free = {"command": f"/opt/{agent}/{program}", "timeout_seconds": 120, **FREE[agent]}
        for suffix, config in {"": free, "-short": free | {"timeout_seconds": 8}, "-gone": {}}.items():
            agents.append(
                {
                    "agent_id": f"{agent}{suffix}",
                    "name": f"{agent}{suffix}",
                    "runner_id": f"plugin:portway/{runner}/default",
                    "config": config,
                    "box_policy": policy,
                }
            )
    agents += presets(folder / "programs" / "claude")
    async with start_aimock(FIXTURES) as mock:
        provider = {
            "kind": kind,
            "base_url": mock.base_url + ("" if kind == "anthropic" else "/v1"),
            "api_key": mock.api_key,
            "models": [{"id": "mocked", "name": "some-model"}],
        }
        settings = {
            "models": {"default": "mocked", "providers": {"mock": provider}},
            "agents": agents,
            "bindings": [{"binding_id": "all", "scope": "BINDING_SCOPE_GLOBAL", "agent_id": "claude"}],
            "box": {"mount_roots": [str(folder / "programs")]},
        }
        async with started(folder, config=json.dumps(settings)) as stack:
            yield Real(stack, mock)


def presets(program: Path) -> list[dict[str, object]]:
    """Claude Code as any command: the preset as it is, and a command of one's own over all of it."""
    policy = {
        "tools": ["exec"],
        "session_template": "{conversation_id}",
        "mounts": [{"source": str(program), "target": "/opt/claude"}],
    }
    # Without tools, so that the mock's journal has the whole of a request.
    own = [
        "/opt/claude/claude",
        "-p",
        "--tools",
        "",
        "--model",
        "some-model",
        "--system-prompt",
        "An own persona.",
        "{text}",
    ]
    configs: dict[str, dict[str, object]] = {
        "preset": {"preset": "claude", "environment": "PATH=/opt/claude:/usr/bin:/bin", "arguments": '["--tools", ""]'},
        "preset-own": {"preset": "claude", "command": json.dumps(own)},
        "preset-absent": {"preset": "claude"},
    }
    return [
        {
            "agent_id": name,
            "name": name,
            "runner_id": "plugin:portway/exec/default",
            "config": config | {"timeout_seconds": 120},
            "box_policy": policy,
        }
        for name, config in configs.items()
    ]


def _copied(source: Path, target: Path) -> None:
    """By links where the file system lets: the programs have hundreds of megabytes."""

    def link(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)

    shutil.copytree(source, target, copy_function=link)
    for one in (target, *target.parents[:4]):
        one.chmod(one.stat().st_mode | 0o055)


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
async def test_a_conversation_goes_on_in_the_programs_own_session(tmp_path: Path, kind: str) -> None:
    async with real(tmp_path, kind) as here, here.stack.client() as host:
        for agent in AGENTS:
            talk = uuid.uuid4().hex
            first, _ = await here.say(host, agent, "say hello", talk)
            assert first.run.state == run_pb2.RUN_STATE_COMPLETED, first.run.error
            assert first.reply is not None and first.reply.content == "Hello from the mock."
            second, _ = await here.say(host, agent, "and again", talk)
            assert second.reply is not None and second.reply.content == "Hello again from the mock.", second.run.error
            used, tools = await here.say(host, agent, f"use a tool, {agent}", talk)
            assert used.reply is not None and used.reply.content == "The command said what it said.", used.run.error
            assert tools == [{"claude": "Bash", "codex": "shell"}[agent]]
            asked = json.dumps(await here.mock.requests())
            # The second message came with the first one: the program had its session again.
            assert "say hello" in asked.rpartition("and again")[0]
            absent, _ = await here.say(host, f"{agent}-gone", "say hello", uuid.uuid4().hex)
            assert absent.run.error.code == "harness.cli_missing", absent.run.error
        assert here.mock.api_key not in (tmp_path / "up.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
async def test_a_program_asks_the_runs_bridge_and_uses_the_answer(tmp_path: Path, kind: str) -> None:
    async with real(tmp_path, kind) as here, here.stack.client() as host:
        for agent in AGENTS:
            results = []
            talk = uuid.uuid4().hex
            async for item in host.chat(f"ask the bridge, {agent}", conversation_id=talk, agent_id=agent):
                if isinstance(item, ToolDone):
                    results.append(item.call)
                last = item
            assert isinstance(last, Finished) and last.run.state == run_pb2.RUN_STATE_COMPLETED, last
            # The mock says so only to the result of the call, which the program sent it with its next request.
            assert last.reply is not None and last.reply.content == "The bridge said what it said.", last.reply
            (result,) = results
            assert result.tool == {"claude": "mcp__portway__event", "codex": "portway.event"}[agent]
            assert not result.HasField("error"), result
            said = str(result)
            assert last.run.run_id in said and "message.received" in said and f"ask the bridge, {agent}" in said
        assert "pw_bridge_" not in json.dumps(await here.mock.requests())


async def test_cancel_deadline_and_a_killed_box_leave_nothing_of_a_program(tmp_path: Path) -> None:
    async with real(tmp_path, "openai") as here, here.stack.client() as host:
        for agent in AGENTS:
            slow = f"take your time, {agent}"
            accepted = await host.send(slow, conversation_id=uuid.uuid4().hex, agent_id=agent)
            await until(lambda: bool(sleepers()))
            await host.runs.cancel(accepted.run_id)
            async for _ in host.runs.watch(accepted.run_id):
                pass
            assert (await host.runs.get(accepted.run_id)).state == run_pb2.RUN_STATE_CANCELLED
            await until(lambda: not sleepers())
            late, _ = await here.say(host, f"{agent}-short", slow, uuid.uuid4().hex)
            assert late.run.error.code == "harness.timeout", late.run.error
            await until(lambda: not sleepers())
            accepted = await host.send(slow, conversation_id=uuid.uuid4().hex, agent_id=agent)
            await until(lambda: bool(sleepers()))
            old = await here.stack.kill("box")
            async for _ in host.runs.watch(accepted.run_id):
                pass
            assert (await host.runs.get(accepted.run_id)).error.code == "harness.lost"
            await until(lambda: not sleepers())
            await here.stack.restarted("box", old)
            again, _ = await here.say(host, agent, "say hello", uuid.uuid4().hex)
            assert again.reply is not None and again.reply.content == "Hello from the mock.", again.run.error


async def test_the_preset_of_any_command_is_claude_code_with_a_neutral_persona(tmp_path: Path) -> None:
    async with real(tmp_path, "anthropic") as here, here.stack.client() as host:
        talk = uuid.uuid4().hex
        # What a user of the program would have set counts for nothing: the settings are those of the project.
        told, _ = await here.say(host, "preset", "say hello", talk)
        assert told.reply is not None and told.reply.content.strip() == "Hello from the mock.", told.run.error
        asked = json.dumps(await here.mock.requests())
        assert "You are a helpful assistant that answers messages of a chat" in asked
        # No session: the next message knows nothing of this one.
        again, _ = await here.say(host, "preset", "and again", talk)
        assert again.reply is not None and again.reply.content.strip() == "Hello again from the mock."
        last = json.dumps((await here.mock.requests())[-1])
        assert "and again" in last and "say hello" not in last
        own, _ = await here.say(host, "preset-own", "say hello", uuid.uuid4().hex)
        assert own.reply is not None and own.reply.content.strip() == "Hello from the mock.", own.run.error
        assert "An own persona." in json.dumps((await here.mock.requests())[-1])
        absent, _ = await here.say(host, "preset-absent", "say hello", uuid.uuid4().hex)
        assert absent.run.error.code == "harness.cli_missing", absent.run.error
