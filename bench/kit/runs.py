"""Runs of the bench's own plugin: it floods, calls, or waits, as its message says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from portway.clients.host import Portway
from portway.v1 import agent_pb2, run_pb2

AGENT = "bench"
PLUGIN = Path(__file__).parent.parent / "plugin"
CONFIG = f"runtime:\n  plugins: [{PLUGIN}]\n"
_RUNNER = "plugin:portway-bench/load/default"
_HOUR = 3600
_HELD_SECONDS = 30


async def create_agent(host: Portway) -> None:
    """The agent that the plugin's runs belong to."""
    agent = agent_pb2.Agent(agent_id=AGENT, name=AGENT, runner_id=_RUNNER)
    agent.timeout.FromSeconds(_HOUR)
    await host.agents.CreateAgent(agent_pb2.CreateAgentRequest(agent=agent))


async def answer(host: Portway, text: str) -> str:
    """What a run says to `text`."""
    accepted = await host.send(text, agent_id=AGENT)
    said = ""
    async for event in host.runs.watch(accepted.run_id, committed_only=True):
        match event.WhichOneof("kind"):
            case "message_completed":
                said += "".join(part.text.text for part in event.message_completed.message.parts)
            case "run_failed":
                raise AssertionError(f"the run of {text!r} failed: {event.run_failed.error.message}")
    return said


@asynccontextmanager
async def held(host: Portway, folder: Path, conversation_id: str) -> AsyncIterator[str]:
    """A run that executes until the block is left. Gives its token."""
    path = folder / f"{conversation_id}.token"
    accepted = await host.send(f"hold {path}", agent_id=AGENT, conversation_id=conversation_id)
    async with asyncio.timeout(_HELD_SECONDS):
        await _until_progress(host, accepted.run_id)
    try:
        yield path.read_text(encoding="ascii")
    finally:
        await host.runs.cancel(accepted.run_id, "the bench has ended")


async def _until_progress(host: Portway, run_id: str) -> None:
    """The runner has begun what it was told."""
    watch: Any = host.runs.stub.WatchRun(run_pb2.WatchRunRequest(run_id=run_id))
    try:
        async for response in watch:
            for event in response.events:
                if event.HasField("run_failed"):
                    raise AssertionError(f"the run failed: {event.run_failed.error.message}")
                if event.HasField("progress"):
                    return
    finally:
        watch.cancel()
