"""The bundled agent through a whole installation, with a strict model endpoint.

Summaries that survive kills, tool loops that are cut off, questions, and what models should not write.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from portway.clients.host import Finished
from portway.clients.runtime import Runtime
from portway.rpc.channel import open_channel
from portway.v1 import event_pb2, interaction_pb2, run_pb2, run_result_pb2
from tests.asking import ask
from tests.e2e.stack import Stack, alive, started, until
from tests.fakes.model_api import Answer, FakeModelApi, Hold, Recorded, serve_fake_model_api
from tests.fakes.model_wire import WireAnswer, WireToolCall, openai_frames
from tests.sandbox import needs_sandbox

pytestmark = pytest.mark.heavy

SUMS_UP = "You sum up conversations."
PARTS = ["host", "runtime", "plugin"]
CONFIG = """
models:
  default: written
  providers:
    fake:
      kind: openai
      base_url: "{url}/v1"
      api_key: test-key
      models: [{{id: written, name: some-model, capabilities: [tools]}}]
agents:
- agent_id: helper
  name: Helper
  runner_id: plugin:portway/local-agent/default
  config: {config}
  box_policy: {{tools: [exec]}}
  on_interrupted: INTERRUPTED_POLICY_RETRY
"""


def says(text: str, *more: str) -> Answer:
    return Answer(tuple(openai_frames(WireAnswer(text=(text, *more)))))


def calls(*wanted: tuple[str, Any]) -> Answer:
    asked = tuple(
        WireToolCall(f"call_{number}", name, (text if isinstance(text, str) else json.dumps(text),))
        for number, (name, text) in enumerate(wanted)
    )
    return Answer(tuple(openai_frames(WireAnswer(tool_calls=asked))))


def held(event: asyncio.Event) -> Answer:
    return Answer((Hold(event),))


@asynccontextmanager
async def helping(folder: Path, **config: Any) -> AsyncIterator[tuple[Stack, FakeModelApi]]:
    async with serve_fake_model_api() as api:
        text = CONFIG.format(url=api.base_url, config=json.dumps(config))
        async with started(folder, config=text) as stack:
            yield stack, api


async def say(stack: Stack, text: str, conversation: str = "c") -> Finished:
    async with stack.client() as host:
        seen = [item async for item in host.chat(text, conversation_id=conversation, agent_id="helper")]
    assert isinstance(seen[-1], Finished)
    return seen[-1]


def told(request: Any) -> str:
    return json.dumps(request.body["messages"], ensure_ascii=False)


def summings(api: FakeModelApi) -> Sequence[Any]:
    return [one for one in api.requests if SUMS_UP in told(one)]


async def kill(stack: Stack, part: str) -> None:
    """Kills it, and waits until it is gone or there is a new one. A plugin begins again with its next run."""
    if part != "plugin":
        await stack.restarted(part, await stack.kill(part))
        return
    async with Runtime(str(stack.ready["runtime"]), token=stack.token) as runtime:
        page = await runtime.list_plugins()
    pid = next(one.pid for one in page.plugins if one.plugin_id == "portway/local-agent")
    if pid:
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not alive(pid), "the plugin to be gone")


def sums_up(text: str) -> tuple[Callable[[Recorded], bool], Answer]:
    return (lambda request: SUMS_UP in told(request)), says(text)


async def test_a_summary_outlives_every_kill(tmp_path: Path) -> None:
    async with helping(tmp_path, history_tokens=1_000) as (stack, api):
        api.standing.append(sums_up("They counted messages."))
        for number in range(6):
            api.will(says(f"answer {number} " + "y" * 400))
            await say(stack, f"message {number} " + "x" * 400)
        made = len(summings(api))
        assert made == 1
        for part in PARTS:
            await kill(stack, part)
            api.will(says("still here"))
            finished = await say(stack, f"after the kill of {part}")
            assert finished.run.state == run_pb2.RUN_STATE_COMPLETED, finished.run
            assert len(summings(api)) == made, f"summed up again after the kill of {part}"
            assert "They counted messages." in told(api.requests[-1])
            assert "message 0" not in told(api.requests[-1])


async def test_a_recalled_message_takes_the_summary_with_it(tmp_path: Path) -> None:
    async with helping(tmp_path, history_tokens=1_000) as (stack, api):
        api.standing.append(sums_up("They said a secret."))
        async with open_channel(stack.host_address, token=stack.token) as channel:
            for number in range(6):
                api.will(says(f"answer {number} " + "y" * 400))
                await submit(channel, f"message {number} " + "x" * 400, f"p-{number}")
            assert "They said a secret." in told(api.requests[-1])
            await submit(channel, "", "p-0", kind="message.recalled")
            api.standing[:] = [sums_up("They counted.")]
            api.will(says("done"))
            await submit(channel, "what do you know?", "p-6")
        assert "They said a secret." not in told(api.requests[-1])
        assert "They counted." in told(api.requests[-1])
        assert "message 0" not in told(summings(api)[-1])


async def submit(channel: Any, text: str, message: str, kind: str = "message.received") -> str:
    event = event_pb2.Event(type=kind, source="tests")
    event.subject.type, event.subject.id = "message", message
    event.address.surface, event.address.launcher_type, event.address.launcher_id = "api", "person", "ada"
    if text:
        event.parts.add().text.text = text
    # A recall that names an agent would be run for it, and not only change the message.
    agent_id = "helper" if text else ""
    request = event_pb2.SubmitEventRequest(event=event, idempotency_key=f"{message}-{kind}", agent_id=agent_id)
    accepted = await ask(channel, request)
    if accepted.run_id:
        await ended(channel, accepted.run_id)
    return str(accepted.run_id)


async def ended(channel: Any, run_id: str) -> run_pb2.Run:
    over = (run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELLED)
    async with asyncio.timeout(60):
        while True:
            run: run_pb2.Run = (await ask(channel, run_pb2.GetRunRequest(run_id=run_id))).run
            if run.state in over:
                return run
            await asyncio.sleep(0.05)


@needs_sandbox
@pytest.mark.parametrize("part", PARTS)
async def test_a_tool_loop_that_is_cut_off_goes_on_and_does_nothing_twice(tmp_path: Path, part: str) -> None:
    over = asyncio.Event()
    command = ("exec", {"command": "echo x >> /workspace/times; wc -l < /workspace/times"})
    async with helping(tmp_path) as (stack, api):
        api.will(calls(command), held(over))
        saying = asyncio.create_task(say(stack, "do it once"))
        await until(lambda: len(api.requests) == 2, "the second question to the model")
        api.will(*([] if part == "plugin" else [calls(command), says("done")]))
        await kill(stack, part)
        over.set()
        finished = await saying
        if part == "plugin":
            assert finished.run.error.code == "runner.crashed", finished.run
            api.will(says("ready"))
            assert (await say(stack, "again")).run.state == run_pb2.RUN_STATE_COMPLETED
        else:
            assert finished.run.state == run_pb2.RUN_STATE_COMPLETED, finished.run
            results = [one["content"] for one in api.requests[-1].body["messages"] if one["role"] == "tool"]
            assert len(results) == 1 and results[0].strip().endswith("1"), results


async def test_a_question_and_its_answer_are_one_talk_also_when_everything_was_killed_between(tmp_path: Path) -> None:
    async with helping(tmp_path, max_rounds=5) as (stack, api):
        api.will(calls(("ask_person", {"question": "Which city?", "options": ["Rome", "Oslo"]})))
        first = await say(stack, "plan my trip")
        assert first.run.finish_reason == run_result_pb2.FINISH_REASON_AWAITING_INTERACTION, first.run
        for part in PARTS:
            await kill(stack, part)
        async with open_channel(stack.host_address, token=stack.token) as channel:
            listed = await ask(channel, run_pb2.ListInteractionsRequest(open_only=True))
            question = listed.interactions[0]
            answer = interaction_pb2.InteractionAnswer(
                run_id=question.run_id, interaction_id=question.interaction.interaction_id, action_id="option_2"
            )
            api.will(says("Oslo it is."))
            answered = await ask(channel, run_pb2.SubmitInteractionRequest(request_id="a-1", answer=answer))
            run = await ended(channel, answered.run_id)
        assert run.state == run_pb2.RUN_STATE_COMPLETED, run
        messages = api.requests[-1].body["messages"]
        assert [one["role"] for one in messages[-3:]] == ["user", "assistant", "tool"]
        assert "Oslo" in messages[-1]["content"] and "plan my trip" in json.dumps(messages[-3])


async def test_halves_of_characters_and_a_thousand_calls_do_no_harm(tmp_path: Path) -> None:
    async with helping(tmp_path) as (stack, api):
        api.will(says("half \ud83d a smile"))
        finished = await say(stack, "smile", "smiles")
        assert finished.reply is not None and finished.reply.content.startswith("half "), finished.run
        api.will(calls(("exec", '{"command": "\\ud83d"}'), ("ask_nobody", "{")), says("sorry"))
        finished = await say(stack, "break it", "broken")
        assert finished.reply is not None and finished.reply.content == "sorry", finished.run
        many = calls(*(("nothing", {"n": number}) for number in range(1_000)))
        api.will(many, says("enough"))
        finished = await say(stack, "all of it", "many")
        assert finished.reply is not None and finished.reply.content == "enough", finished.run
        asked = [one for one in api.requests[-1].body["messages"] if one["role"] == "assistant"]
        assert len(asked[-1]["tool_calls"]) == 64


async def test_a_host_without_knowledge_is_noted_once_in_the_plugins_log(tmp_path: Path) -> None:
    async with helping(tmp_path, knowledge_bases=["manual"]) as (stack, api):
        api.will(says("from memory"))
        finished = await say(stack, "what does the manual say?")
        assert finished.reply is not None and finished.reply.content == "from memory", finished.run
        logs = await stack.portway("plugin", "logs", "portway/local-agent")
        assert (logs.out + logs.err).count("answering without knowledge bases") == 1, logs


async def test_a_misspelt_field_is_refused_when_the_agent_is_saved(tmp_path: Path) -> None:
    async with helping(tmp_path) as (stack, _):
        file = tmp_path / "wrong.yaml"
        head = "kind: Agent\nagent_id: wrong\nname: Wrong\nrunner_id: plugin:portway/local-agent/default\n"
        file.write_text(f"{head}config: {{knowledge_topk: 3}}\n", encoding="utf-8")
        applied = await stack.portway("apply", str(file))
        assert applied.code != 0
        assert "did you mean 'knowledge_top_k'?" in applied.err, applied
