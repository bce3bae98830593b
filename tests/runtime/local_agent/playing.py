"""Runs the bundled agent against the kit's host, with what its manifest permits."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from portway.runtime.official.local_agent.agent import LocalAgent
from portway.runtime.sdk import (
    AgentRunner,
    Budget,
    MessageRole,
    ModelAnswer,
    ModelMessage,
    ModelRequest,
    ModelToolResult,
    RunContext,
    StateScope,
    TranscriptItem,
)
from portway.runtime.sdk.testing import Outcome, Things, run_runner
from portway.runtime.sdk.testing.drive import context_for
from portway.runtime.sdk.types.context import DeliveryContext
from portway.runtime.sdk.types.convert import Json
from portway.runtime.sdk.types.resources import ModelResource

PERMISSIONS = (
    "models.invoke models.stream models.rerank models.count_tokens tools.detail tools.call knowledge_bases.list "
    "knowledge_bases.retrieve history.page artifacts.metadata artifacts.read interactions.request state prompt"
).split()
SUMS_UP = "You sum up conversations."


def model(name: str = "model", *, vision: bool = True, tools: bool = True, window: int = 32_000) -> ModelResource:
    return ModelResource(name, "llm", "fake", window, vision, tools)


async def play(
    things: Things,
    text: str = "hello",
    *,
    config: Json | None = None,
    context: RunContext | None = None,
    permissions: Sequence[str] = tuple(PERMISSIONS),
    steered: bool = False,
    runner: type[AgentRunner] = LocalAgent,
) -> Outcome:
    context = context or at_home(context_for(text, things, config=config))
    return await run_runner(runner, text, things=things, permissions=permissions, context=context, steered=steered)


def at_home(context: RunContext, **changes: Any) -> RunContext:
    """A context of a chat that people see."""
    return replace(context, delivery=DeliveryContext(surface="web"), **changes)


def with_budget(context: RunContext, budget: Budget) -> RunContext:
    return replace(context, runtime=replace(context.runtime, budget=budget))


def results_of(request: ModelRequest) -> list[ModelToolResult]:
    return [message.tool_result for message in request.messages if message.tool_result is not None]


def said_by(request: ModelRequest, role: MessageRole) -> list[str]:
    return [message.text for message in request.messages if message.role is role]


def asked_to_sum_up(request: ModelRequest) -> bool:
    return request.messages[0].text.startswith(SUMS_UP)


def summing(answer: str, summary: str = "They spoke of ships.") -> Any:
    """A model that says the one, or writes the other where it is asked to sum up."""

    def ask(request: ModelRequest) -> ModelAnswer:
        return ModelAnswer(ModelMessage.assistant(summary if asked_to_sum_up(request) else answer), model_id="model")

    return ask


def kept(things: Things, key: str) -> Any:
    """A value of the conversation's state."""
    found = things.state.get((StateScope.CONVERSATION.value, key))
    return None if found is None else json.loads(found[0])


def keep(things: Things, key: str, value: Any, version: int = 1) -> None:
    things.state[StateScope.CONVERSATION.value, key] = (json.dumps(value), version)


def progress(outcome: Outcome) -> str:
    return "\n".join(one.progress.text for one in outcome.results if one.HasField("progress"))


def tool_errors(outcome: Outcome) -> list[str]:
    completed = [one.tool_call_completed for one in outcome.results if one.HasField("tool_call_completed")]
    return [one.error.code for one in completed]


def item(index: int, role: MessageRole, text: str, **changes: Any) -> TranscriptItem:
    return TranscriptItem(f"msg_{index}", role=role, kind="message", content=text, cursor=str(index), **changes)
