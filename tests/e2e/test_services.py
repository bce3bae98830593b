"""Agents that ask services, as an operator declares them, through a whole installation."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.channel import open_channel
from portway.v1 import interaction_pb2, run_pb2
from tests.asking import ask
from tests.contracts.service.conftest import VENDORS
from tests.e2e.stack import Stack, started
from tests.fakes.services.api import KEY, serve
from tests.fakes.services.dify import paused

pytestmark = pytest.mark.heavy

SECONDS = 120


def agent(name: str, config: dict[str, Any]) -> str:
    fields = "".join(f"  {key}: {value!r}\n" for key, value in config.items())
    fields = fields.replace("True", "true").replace("False", "false")
    head = f"---\nkind: Agent\nagent_id: {name}\nname: {name}\nrunner_id: plugin:portway/{name}/default\n"
    return f"{head}config:\n{fields}"


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    """What `look` finds, once it finds something."""
    async with asyncio.timeout(SECONDS):
        while True:
            if found := await look():
                return found
            await asyncio.sleep(0.1)


async def test_each_runner_answers_through_the_whole_and_keeps_its_key(tmp_path: Path) -> None:
    async with AsyncExitStack() as fakes, started(tmp_path) as stack:
        services: dict[str, Any] = {}
        file = tmp_path / "agents.yaml"
        for name, vendor in VENDORS.items():
            fake: Any = await fakes.enter_async_context(serve(vendor.fake()))
            services[name] = fake
            config = {vendor.url_field: fake.base_url + vendor.url_path, vendor.key_field: KEY, **vendor.config}
            with file.open("a") as declared:
                declared.write(agent(name, config))
        applied = await stack.portway("apply", str(file))
        assert applied.code == 0, applied.err
        for name, vendor in VENDORS.items():
            for text in ("hello there", "and again"):
                said = await stack.portway("send", text, "--agent", name, "--conversation", f"c-{name}", "--wait")
                assert said.code == 0, (name, said.out, said.err)
                assert f"echo: {text}" in said.out
            if vendor.remembers:
                kept = getattr(services[name], "conversations", None) or services[name].sessions
                assert len(kept) == 1
            shown = await stack.portway("agents", "show", name)
            assert KEY not in shown.out
        await _a_pause_becomes_a_question(stack, services["dify"])
    log = (tmp_path / "up.log").read_text()
    assert KEY not in log


async def _a_pause_becomes_a_question(stack: Stack, dify: Any) -> None:
    dify.will(paused())
    await stack.portway("send", "please", "--agent", "dify", "--conversation", "c-pause", "--wait")
    async with open_channel(stack.host_address, token=stack.token) as channel:
        listed = run_pb2.ListInteractionsRequest(conversation_id="c-pause", open_only=True)

        async def asked() -> Any:
            return (await ask(channel, listed)).interactions

        question = (await until(asked))[0]
        answer = interaction_pb2.InteractionAnswer(
            run_id=question.run_id, interaction_id=question.interaction.interaction_id, action_id="approve"
        )
        answer.values.update({"feedback": "good", "tone": "a"})
        submitted = await ask(channel, run_pb2.SubmitInteractionRequest(answer=answer, request_id="answer-1"))
        watched = await stack.portway("runs", "watch", submitted.run_id)
        assert "it went out" in watched.out, watched
    assert dify.submitted[0]["inputs"] == {"feedback": "good", "tone": "a"}
