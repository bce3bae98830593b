"""A whole installation with an agent for each harness, in the box and on the machine, all with the scripted program."""

import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from portway.clients.host import Accepted, Finished
from portway.clients.run_view import TextAdded, ToolDone
from portway.v1 import content_pb2, run_pb2
from tests.e2e.stack import Stack, started

FAKE = Path(__file__).parent / "programs" / "fake_cli.py"
VENDORS = {"claude-code": "claude", "codex": "codex", "acp": "acp", "exec": "plain"}
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
        """A message, and what came of it."""
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

    async def send_files(self, agent_id: str, text: str, files: Sequence[tuple[str, bytes]]) -> Told:
        """A message with files; of what came of it, what the transcript has."""
        async with self.stack.client() as host:
            parts = []
            for name, content in files:
                made = await host.artifacts.create(content, name=name)
                reference = made.ref
                parts.append(content_pb2.ContentPart(file=content_pb2.MediaPart(artifact=reference)))
            talk = uuid.uuid4().hex
            accepted = await host.send(text, conversation_id=talk, agent_id=agent_id, parts=tuple(parts))
            async for _ in host.runs.watch(accepted.run_id):
                pass
            run = await host.runs.get(accepted.run_id)
            reply = (await host.history(accepted.conversation_id)).items[-1]
        return Told(run, reply.content, (), ())

    async def made(self, agent_id: str, text: str) -> Mapping[str, bytes]:
        """The files that came with the answer to a message."""
        async with self.stack.client() as host:
            accepted = await host.send(text, conversation_id=uuid.uuid4().hex, agent_id=agent_id)
            async for _ in host.runs.watch(accepted.run_id):
                pass
            reply = (await host.history(accepted.conversation_id)).items[-1]
            return {
                one.name: b"".join([piece async for piece in host.artifacts.read(one.artifact_id)])
                for one in reply.artifacts
            }

    async def begin(self, agent_id: str, text: str) -> Accepted:
        async with self.stack.client() as host:
            return await host.send(text, conversation_id=uuid.uuid4().hex, agent_id=agent_id)

    def processes_of(self, cell: str) -> list[str]:
        """Those of one runner in one place."""
        return [words for words in self.processes() if f"{self.marker}:{cell}:" in words]

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


def agents_for(programs: Path, marker: str) -> list[dict[str, object]]:
    """For each harness and place: one, one with little time, and one whose program is absent."""
    found = []
    for runner, vendor in VENDORS.items():
        for place in PLACES:
            folder = "/opt/fake" if place == "box" else str(programs)
            command = json.dumps([PYTHON, f"{folder}/fake_cli.py", f"{marker}:{runner}-{place}:", vendor])
            variants: dict[str, dict[str, object]] = {
                "": {"command": command},
                "-short": {"command": command, "timeout_seconds": 1.5},
                "-brief": {"command": command, "timeout_seconds": 12},
                "-absent": {"command": "/nowhere/program"},
            }
            if vendor == "acp":
                variants["-ask"] = {"command": command, "permissions": "ask"}
            for suffix, config in variants.items():
                policy = {
                    "tools": ["exec"],
                    "session_template": "{conversation_id}",
                    "mounts": [{"source": str(programs), "target": "/opt/fake"}],
                }
                one: dict[str, object] = {
                    "agent_id": f"{runner}-{place}{suffix}",
                    "name": f"{runner}-{place}{suffix}",
                    "runner_id": f"plugin:portway/{runner}/default",
                    "config": {"where": place} | config,
                    "box_policy": policy,
                }
                found.append(one)
    return found


@asynccontextmanager
async def harnessed(folder: Path) -> AsyncIterator[Harnessed]:
    marker = f"fake-{uuid.uuid4().hex[:12]}"
    programs, allowed = folder / "programs", folder / "allowed"
    for one in (programs, allowed):
        one.mkdir()
    programs.chmod(0o755)
    (programs / "fake_cli.py").write_text(FAKE.read_text())
    settings = {
        "agents": agents_for(programs, marker),
        "bindings": [{"binding_id": "all", "scope": "BINDING_SCOPE_GLOBAL", "agent_id": "exec-box"}],
        "box": {"mount_roots": [str(programs)]},
        "runtime": {"host_harness": {"enabled": True, "working_directories": [str(allowed)]}},
    }
    async with started(folder, config=json.dumps(settings)) as stack:
        yield Harnessed(stack, marker, allowed)
