"""Messages through a session bridge: a whole installation, the queue as a process, and somebody who answers files."""

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from portway.clients.host import Accepted
from portway.v1 import run_pb2
from tests.e2e.stack import Stack, started
from tests.postgres import free_port
from tests.waiting import until

AGENT = "plugin:portway/session-bridge/default"


@dataclass(frozen=True, slots=True)
class Desk:
    stack: Stack
    folder: Path
    port: int

    async def send(self, text: str, agent: str = "desk") -> Accepted:
        async with self.stack.client() as host:
            return await host.send(text, conversation_id=uuid.uuid4().hex, agent_id=agent)

    async def end(self, run_id: str) -> run_pb2.Run:
        async with self.stack.client() as host:
            async for _ in host.runs.watch(run_id):
                pass
            return await host.runs.get(run_id)

    async def waiting(self, run_id: str) -> Path:
        path = self.folder / "inbox" / f"{run_id}.json"
        await until(path.exists)
        return path


@asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[Desk]:
    port, bridge = free_port(), folder / "bridge"
    settings = {
        "agents": [
            {"agent_id": "desk", "name": "desk", "runner_id": AGENT},
            {"agent_id": "hasty", "name": "hasty", "runner_id": AGENT, "config": {"timeout_seconds": 0.5}},
            {"agent_id": "patient", "name": "patient", "runner_id": AGENT, "config": {"timeout_seconds": 5}},
            {"agent_id": "nowhere", "name": "nowhere", "runner_id": AGENT, "config": {"bridge": "other"}},
        ],
        "bindings": [{"binding_id": "all", "scope": "BINDING_SCOPE_GLOBAL", "agent_id": "desk"}],
        "runtime": {"session_bridges": {"default": {"port": port, "folder": str(bridge)}}},
    }
    async with started(folder, config=json.dumps(settings)) as stack:
        yield Desk(stack, bridge, port)


@asynccontextmanager
async def served(here: Desk) -> AsyncIterator[None]:
    queue = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "portway.runtime.official.session_bridge.desk_queue"),
        *("--port", str(here.port), "--folder", str(here.folder)),
    )
    try:
        async with httpx.AsyncClient(trust_env=False) as client:

            async def answers() -> bool:
                try:
                    return (await client.post(f"http://127.0.0.1:{here.port}/messages")).status_code == 401
                except httpx.TransportError:
                    return False

            while not await answers():
                assert queue.returncode is None
        yield
    finally:
        queue.terminate()
        await queue.wait()


async def test_a_message_is_answered_by_whoever_sits_there(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        absent = await here.send("is anybody there?")
        assert (await here.end(absent.run_id)).error.code == "harness.lost"
        unknown = await here.send("to whom?", "nowhere")
        assert (await here.end(unknown.run_id)).error.code == "harness.no_place"
        async with served(here):
            sent = await here.send("what is on the screen?")
            message = json.loads((await here.waiting(sent.run_id)).read_text(encoding="utf-8"))
            assert message["text"] == "what is on the screen?"
            assert message["context"]["schema"] == "portway.agent-context"
            assert (here.folder / "token").stat().st_mode & 0o077 == 0
            unfinished = here.folder / "answer.md"
            unfinished.write_text("a document", encoding="utf-8")
            unfinished.replace(here.folder / "outbox" / f"{sent.run_id}.md")
            assert (await here.end(sent.run_id)).state == run_pb2.RUN_STATE_COMPLETED
            async with here.stack.client() as host:
                reply = (await host.history(sent.conversation_id)).items[-1]
            assert reply.content == "a document"
            late = await here.send("hurry", "hasty")
            assert (await here.end(late.run_id)).error.code == "harness.timeout"
            cancelled = await here.send("never mind")
            waiting = await here.waiting(cancelled.run_id)
            async with here.stack.client() as host:
                await host.runs.cancel(cancelled.run_id)
            assert (await here.end(cancelled.run_id)).state == run_pb2.RUN_STATE_CANCELLED
            await until(lambda: not waiting.exists())
            async with httpx.AsyncClient(trust_env=False) as client:
                refused = await client.post(f"http://127.0.0.1:{here.port}/messages", json={"id": "x"})
            assert refused.status_code == 401


def plugins(here: Desk) -> list[int]:
    """Processes of the bridge's plugin in this installation."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
                if name.startswith("pw:") and "session" in name and _is_of(int(rest.split()[1]), here):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def _is_of(pid: int, here: Desk) -> bool:
    while pid > 1:
        if str(here.stack.data).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


@pytest.mark.heavy
async def test_however_a_run_ends_its_message_is_taken_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It starts no program: what could be left is a message that nobody waits for any more."""
    seen: list[str] = []
    async with desk(tmp_path) as here, served(here), here.stack.client() as host:
        for ending in ("finished", "cancelled", "deadline", "plugin", "runtime", "host", "box"):
            sent = await here.send("are you there?", "patient" if ending == "deadline" else "desk")
            message = await here.waiting(sent.run_id)
            seen.append(ending)
            match ending:
                case "finished" | "box":
                    if ending == "box":
                        await here.stack.restarted("box", await here.stack.kill("box"))
                    # Without a box nothing is lost: the message waits on.
                    assert message.exists()
                    (here.folder / "answer.md").write_text("here", encoding="utf-8")
                    (here.folder / "answer.md").replace(here.folder / "outbox" / f"{sent.run_id}.md")
                case "cancelled":
                    await host.runs.cancel(sent.run_id)
                case "plugin":
                    killed = plugins(here)
                    assert killed
                    for pid in killed:
                        os.kill(pid, signal.SIGKILL)
                case "runtime" | "host":
                    await here.stack.restarted(ending, await here.stack.kill(ending))
            await until(lambda path=message: not path.exists())  # type: ignore[misc]
            expected = {"finished": "", "box": "", "deadline": "harness.timeout", "plugin": "runner.crashed"}
            run = await here.end(sent.run_id)
            assert run.error.code == expected.get(ending, run.error.code), (ending, run.error)
            assert not list((here.folder / "inbox").iterdir())
    with capsys.disabled():
        print(f"\nmessages seen, all taken back after: {', '.join(seen)}")
