"""Runtime, box or web chat are killed with SIGKILL: they are back without a person, and leave nothing behind."""

import asyncio
import json
from pathlib import Path

import pytest

from portway.clients.host import Accepted
from portway.v1 import content_pb2, run_pb2
from tests.e2e.stack import Stack, started
from tests.sandbox import needs_sandbox

SECONDS = 120


async def works(stack: Stack, text: str) -> bool:
    outcome = await stack.portway("send", f"run: echo {text}", "--wait", "--json")
    return outcome.code == 0 and text in str(json.loads(outcome.out)["text"])


@needs_sandbox
@pytest.mark.parametrize("part", ["runtime", "box", "web"])
async def test_a_killed_part_is_back_without_a_person(tmp_path: Path, part: str) -> None:
    async with started(tmp_path) as stack:
        assert await works(stack, "before")
        await stack.restarted(part, await stack.kill(part))
        async with asyncio.timeout(SECONDS):
            while not await works(stack, "afterwards"):
                pass


async def completed(stack: Stack, accepted: Accepted) -> str:
    """The only answer, once the run has ended; anything but a completed run is a failure."""
    async with asyncio.timeout(SECONDS), stack.client() as host:
        async for _ in host.runs.watch(accepted.run_id):
            pass
        run = await host.runs.get(accepted.run_id)
        assert run.state == run_pb2.RUN_STATE_COMPLETED, run
        items = (await host.history(accepted.conversation_id)).items
    (answer,) = [item.content for item in items if item.role != content_pb2.MESSAGE_ROLE_USER]
    return answer


@needs_sandbox
async def test_commands_asked_for_while_the_box_is_away_run_once_it_is_back(tmp_path: Path) -> None:
    async with started(tmp_path) as stack:
        assert await works(stack, "before")
        box = await stack.kill("box")
        async with stack.client() as host:
            sent = [await host.send(f"run: echo output {n}", conversation_id=f"away-{n}") for n in range(8)]
        await stack.restarted("box", box)
        answers = [await completed(stack, one) for one in sent]
        assert all(f"output {n}" in answer for n, answer in enumerate(answers)), answers


async def test_answers_cut_off_with_the_runtime_are_begun_again(tmp_path: Path) -> None:
    slow = {"MODELS__DEFAULT": "demo-slow", "MODELS__DEMO__SLOW_CHUNK_SECONDS": "0.1"}
    async with started(tmp_path, **slow) as stack:
        async with stack.client() as host:
            sent = [await host.send(f"a long message {n} " * 8, conversation_id=f"cut-{n}") for n in range(4)]
            async for event in host.runs.watch(sent[0].run_id):
                if event.WhichOneof("kind") == "message_delta":
                    break
        await stack.restarted("runtime", await stack.kill("runtime"))
        answers = [await completed(stack, one) for one in sent]
        assert all(f"a long message {n}" in answer for n, answer in enumerate(answers)), answers
        async with stack.client() as host:
            assert (await host.runs.get(sent[0].run_id)).attempt == 2
