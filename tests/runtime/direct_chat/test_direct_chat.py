"""Direct chat against the kit's host: one call, history, summaries, no tools."""

from pathlib import Path

import pytest
import yaml

from portway.rpc.errors import LimitExceeded, Reason, Unavailable
from portway.runtime.official.direct_chat.runner import DirectChat
from portway.runtime.official.local_agent import settings
from portway.runtime.official.local_agent.context.checkpoint import CHECKPOINT_KEY
from portway.runtime.sdk import FinishReason
from portway.runtime.sdk.testing import Outcome, Things
from portway.runtime.sdk.testing.things import in_turn, says, transcript, wants
from portway.runtime.sdk.types.convert import Json
from portway.v1 import run_result_pb2 as pb
from tests.runtime.local_agent.playing import kept, model, play, progress, summing

PERMISSIONS = "models.invoke models.stream models.count_tokens history.page artifacts.metadata state prompt".split()
OFFICIAL = Path(settings.__file__).parents[1]
DOCS = Path(__file__).parents[3] / "docs"


async def chat(things: Things, text: str = "hello", config: Json | None = None) -> Outcome:
    return await play(things, text, config=config, permissions=PERMISSIONS, runner=DirectChat)


async def test_it_asks_once_with_the_history_and_streams_the_answer() -> None:
    things = Things(model=in_turn(says("a short answer")), history=transcript("first", "reply"))
    outcome = await chat(things, "second", {"prompt": "Be kind.", "temperature": 0.5, "max_output_tokens": 100})
    assert (outcome.streamed, outcome.messages) == ("a short answer", ["a short answer"])
    assert outcome.terminal.usage.output_tokens == 3
    request = things.model_requests[0]
    assert [one.text for one in request.messages if "Today" not in one.text] == ["Be kind.", "first", "reply", "second"]
    assert (request.tools, request.temperature, request.max_output_tokens) == ((), 0.5, 100)


async def test_what_a_model_wants_to_call_is_not_called() -> None:
    things = Things(model=in_turn(wants(("exec", "{}"), text="I would run it.")), tools={})
    outcome = await chat(things)
    assert outcome.messages == ["I would run it."]
    assert set(outcome.kinds) == {"message_delta", "message_completed", "run_completed"}


async def test_a_long_conversation_is_summed_up() -> None:
    history = transcript(*(f"number {index} " + "x" * 200 for index in range(20)))
    things = Things(model=summing("ok"), history=history)
    assert (await chat(things, config={"history_tokens": 300})).messages == ["ok"]
    assert kept(things, CHECKPOINT_KEY)["summary"] == "They spoke of ships."


async def test_a_fallback_answers_and_a_budget_or_a_tool_field_does_not() -> None:
    away = Unavailable("away", facts={"code": "model.unavailable"})
    models = (model("a"), model("b"))
    things = Things(model=in_turn(away, says("b here")), models=models)
    outcome = await chat(things, config={"model": {"primary": "a", "fallbacks": ["b"]}})
    assert outcome.messages == ["b here"] and "asking b" in progress(outcome)
    spent = Things(model=in_turn(LimitExceeded("spent", reason=Reason.BUDGET_EXHAUSTED)))
    assert (await chat(spent)).error_code == "budget.exhausted"
    refused = await chat(Things(model=in_turn()), config={"max_rounds": 3})
    assert "config.max_rounds is not a field of this runner" in refused.terminal.run_failed.error.message


async def test_an_answer_that_was_cut_says_so() -> None:
    outcome = await chat(Things(model=in_turn(says("half of", finish=FinishReason.LENGTH))))
    assert outcome.terminal.run_completed.finish_reason == pb.FINISH_REASON_LENGTH


@pytest.mark.parametrize(
    ("plugin", "fields"),
    [
        ("direct_chat", (*settings.MODEL_FIELDS, *settings.HISTORY_FIELDS)),
        (
            "local_agent",
            (*settings.MODEL_FIELDS, *settings.HISTORY_FIELDS, *settings.TOOL_FIELDS, *settings.KNOWLEDGE_FIELDS),
        ),
    ],
)
def test_manifest_page_and_runner_have_the_same_fields(plugin: str, fields: tuple[str, ...]) -> None:
    component = yaml.safe_load((OFFICIAL / plugin / "components" / "default.yaml").read_text(encoding="utf-8"))
    described = [one["name"] for one in component["config_schema"]]
    assert sorted(described) == sorted(fields)
    page = DOCS / f"runner-{plugin.replace('_', '-')}.md"
    text = page.read_text(encoding="utf-8")
    assert [name for name in described if f"| `{name}` |" not in text] == []
