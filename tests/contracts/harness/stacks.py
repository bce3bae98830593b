"""A whole installation with an agent for each harness, in the box and on the machine, all with the scripted program."""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from portway.clients.host import Accepted, Finished
from portway.clients.run_view import TextAdded, ToolDone
from portway.v1 import run_pb2
from tests.e2e.stack import Stack, started

FAKE = Path(__file__).parent / "programs" / "fake_cli.py"
VENDORS = {"claude-code": "claude", "codex": "codex", "exec": "plain"}
PLACES = ("box", "machine")
PYTHON = "/usr/bin/python3"


@dataclass(frozen=True, slots=True)
class Told:
    """What a person saw of one message."""

    run: run_pb2.Run
    text: str
    streamed: tuple[str, ...]
    tools: tuple[str, ...]

    @property
    def code(self) -> str:
        return self.run.error.code


@dataclass(frozen=True, slots=True)
class Harnessed:
    """The installation, and what stands in the command line of everything that its programs are and start."""

    stack: Stack
    marker: str
    allowed: Path

    async def say(self, agent_id: str, text: str, conversation_id: str = "") -> Told:
        streamed: list[str] = []
        tools: list[str] = []
        async with self.stack.client() as host:
            talk = conversation_id or uuid.uuid4().hex
            async for item in host.chat(text, conversation_id=talk, agent_id=agent_id):
                match item:
                    case TextAdded():
                        streamed.append(item.text)
                    case ToolDone():
                        tools.append(item.call.tool)
                    case Finished(run, reply):
                        return Told(run, reply.content if reply else "", tuple(streamed), tuple(tools))
        raise AssertionError("the run has no end")

    async def begin(self, agent_id: str, text: str) -> Accepted:
        async with self.stack.client() as host:
            return await host.send(text, conversation_id=uuid.uuid4().hex, agent_id=agent_id)

    def processes(self) -> list[str]:
        """Command lines of what the programs are and have started, on the whole machine."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes()
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                except OSError:
                    continue
                # The sandbox's own processes name their command, and end with it.
                if self.marker.encode() in words and state not in ("Z", "X"):
                    found.append(words.decode(errors="replace"))
        return found


def agent(runner: str, place: str, folder: str, marker: str, **config: object) -> dict[str, object]:
    vendor = VENDORS[runner]
    command = [PYTHON, f"{folder}/fake_cli.py", marker, vendor]
    return {
        "agent_id": f"{runner}-{place}",
        "name": f"{runner}-{place}",
        "runner_id": f"plugin:portway/{runner}/default",
        "config": {"where": place, "command": json.dumps(command)} | config,
        "box_policy": {"tools": ["exec"], "session_template": "{conversation_id}"},
    }


@asynccontextmanager
async def harnessed(folder: Path) -> AsyncIterator[Harnessed]:
    marker = f"fake-{uuid.uuid4().hex[:12]}"
    programs, allowed = folder / "programs", folder / "allowed"
    for one in (programs, allowed):
        one.mkdir()
    programs.chmod(0o755)
    (programs / "fake_cli.py").write_text(FAKE.read_text())
    mount = {"source": str(programs), "target": "/opt/fake"}
    agents = []
    for runner in VENDORS:
        for place in PLACES:
            inside = "/opt/fake" if place == "box" else str(programs)
            one = agent(runner, place, inside, marker)
            short = agent(runner, place, inside, marker, timeout_seconds=1.5)
            absent = agent(runner, place, inside, marker, command="/nowhere/program")
            short["agent_id"] = short["name"] = f"{runner}-{place}-short"
            absent["agent_id"] = absent["name"] = f"{runner}-{place}-absent"
            agents += [one, short, absent]
    for one in agents:
        policy = one["box_policy"]
        assert isinstance(policy, dict)
        policy["mounts"] = [mount]
    settings = {
        "agents": agents,
        "bindings": [{"binding_id": "all", "scope": "BINDING_SCOPE_GLOBAL", "agent_id": "exec-box"}],
        "box": {"mount_roots": [str(programs)]},
        "runtime": {"host_harness": {"enabled": True, "working_directories": [str(allowed)]}},
    }
    async with started(folder, config=json.dumps(settings)) as stack:
        yield Harnessed(stack, marker, allowed)
