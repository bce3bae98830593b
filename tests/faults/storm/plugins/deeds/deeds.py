"""A runner whose every message names one deed and a word of its own: `count w7` or `mark w8`.

What it did can be counted from outside: lines of a file, values of the state, lines in a sandbox. A deed that could not
be done fails the run, so that a completed run always means a deed that was done.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from portway.rpc.errors import Reason, Stale, WrongState
from portway.runtime.sdk import (
    AgentRunner,
    FinishReason,
    HostApi,
    Interaction,
    InteractionField,
    InteractionKind,
    MessageCompleted,
    MessageRole,
    ModelMessage,
    ModelRequest,
    RunCompleted,
    RunContext,
    RunFailure,
    RunResult,
    StateScope,
    TextDelta,
    Tool,
    ToolCall,
    text_part,
)

MARKS = Path(os.environ["STORM_MARKS"])
COUNTED = "counted"


class Deeds(AgentRunner):
    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        if ctx.input.interaction is not None:
            yield MessageCompleted.of_text(f"answered {ctx.input.interaction.values['word']}")
            return
        deed, _, word = (ctx.input.text or "say scheduled").partition(" ")
        if deed == "ask":
            await host.interactions.request(_question(word))
            yield RunCompleted(FinishReason.AWAITING_INTERACTION)
            return
        if deed == "slow":
            for number in range(20):
                yield TextDelta(f"{number} ", "slow")
                await asyncio.sleep(0.05)
        done = await DEEDS[deed](host, word)
        yield MessageCompleted.of_text(done, message_key="slow" if deed == "slow" else "")


def _question(word: str) -> Interaction:
    return Interaction(
        interaction_id="q1",
        kind=InteractionKind.FORM,
        title="Which word?",
        fields=(InteractionField(id="word", label="Word", required=True),),
        fallback_text=f"Please say {word}.",
    )


async def say(host: HostApi, word: str) -> str:
    return f"said {word}"


async def count(host: HostApi, word: str) -> str:
    """Adds the word to a list of the conversation: with compare-and-set, so that none is lost."""
    while True:
        kept = await host.state.get(StateScope.CONVERSATION, COUNTED)
        words = list(kept.value) if kept else []
        if word in words:
            return f"counted {word}"
        try:
            await host.state.set(
                StateScope.CONVERSATION, COUNTED, [*words, word], expected_version=kept.version if kept else 0
            )
        except Stale:
            continue


async def mark(host: HostApi, word: str) -> str:
    result = await host.tools.call("plugin:tests/deeds/mark", {"word": word}, call_id="mark")
    if result.is_error:
        raise RunFailure("storm.mark", result.text)
    return f"marked {word}"


async def command(host: HostApi, word: str) -> str:
    result = await host.tools.call(
        "exec", {"command": f"echo {word} >> /workspace/ran; echo ran {word}"}, call_id="box"
    )
    if result.is_error or f"ran {word}" not in result.text:
        raise RunFailure("storm.command", result.text[:200])
    return f"ran {word}"


async def model(host: HostApi, word: str) -> str:
    said = ModelMessage(role=MessageRole.USER, parts=(text_part(word),))
    answer = await host.models.invoke(ModelRequest(model_id="demo", messages=(said,)))
    return f"modelled {word} {answer.usage.input_tokens}"


DEEDS: dict[str, Callable[[HostApi, str], Awaitable[str]]] = {
    "say": say,
    "slow": say,
    "count": count,
    "mark": mark,
    "approve": mark,
    "box": command,
    "model": model,
}


def _is_marked(effect_id: str) -> bool:
    return MARKS.exists() and f" {effect_id}\n" in MARKS.read_text()


class Mark(Tool):
    async def call(self, arguments: Mapping[str, Any], call: ToolCall) -> str:
        line = f"{arguments['word']} {call.effect_id}\n".encode()
        descriptor = os.open(MARKS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        return "marked"

    async def reconcile(self, arguments: Mapping[str, Any], call: ToolCall) -> str:
        if _is_marked(call.effect_id):
            return "it was marked"
        raise WrongState("never marked", reason=Reason.EFFECT_UNKNOWN)
