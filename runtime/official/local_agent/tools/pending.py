"""A run that asked people something: what the run that their answer starts goes on with."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from portway.runtime.official.local_agent.context.talk import CLIPPED_RESULT, Turn, clipped
from portway.runtime.official.local_agent.context.words import answer_words
from portway.runtime.official.local_agent.tools.question import ASK_PERSON, chosen_words
from portway.runtime.sdk import Interaction, ModelMessage, ModelToolResult, RunContext
from portway.runtime.sdk.types.convert import read, write
from portway.runtime.sdk.types.interactions import InteractionAnswer
from portway.v1 import run_model_pb2

PENDING_KEY = "runner.question.pending"
SCHEMA_VERSION = 1
# A state value has 256 KiB; base64 and the rest need their part.
MAX_BYTES = 160 * 1024


@dataclass(frozen=True, slots=True)
class Pending:
    """`events` are those whose messages are among the turns; the result of the call `call_id` is still missing."""

    run_id: str
    interaction_id: str
    call_id: str
    options: Mapping[str, str]
    events: Sequence[str]
    turns: Sequence[Turn]

    def dump(self) -> dict[str, Any]:
        """As the state keeps it. What does not fit loses its longest results first, then its oldest rounds."""
        return {
            "schema_version": SCHEMA_VERSION,
            "run_id": self.run_id,
            "interaction_id": self.interaction_id,
            "call_id": self.call_id,
            "options": dict(self.options),
            "events": list(self.events),
            "turns": [_dump_turn(turn) for turn in _fitting(self.turns)],
        }

    def answered(self, answer: InteractionAnswer) -> Sequence[Turn]:
        """The turns with the answer in the place of the missing result."""
        chosen = self.options.get(answer.action_id, answer.action_id)
        text = answer_words(InteractionAnswer(action_id=chosen, values=answer.values))
        result = ModelMessage.tool(ModelToolResult(self.call_id, ASK_PERSON, f"the person answered: {text}"))
        last = self.turns[-1]
        return (*self.turns[:-1], Turn((*last.messages, result), is_round=True))


def pending_of(run_id: str, asked: Interaction, call_id: str, events: Sequence[str], turns: Sequence[Turn]) -> Pending:
    options = {one.id: chosen_words(asked, one.id) for one in asked.actions}
    return Pending(run_id, asked.interaction_id, call_id, options, tuple(events), tuple(turns))


def answered_turns(ctx: RunContext) -> tuple[Sequence[Turn], frozenset[str]]:
    """What the answered question's run had, and the ids of what history need not show again. Nothing where the kept
    value belongs to another question, or cannot be read: then the answer is a message like any other."""
    answer = ctx.input.interaction
    kept = ctx.state.conversation.get(PENDING_KEY)
    pending = _load(kept.value) if kept is not None else None
    if answer is None or pending is None or not pending.turns:
        return (), frozenset()
    if (pending.run_id, pending.interaction_id) != (answer.run_id or ctx.parent_run_id, answer.interaction_id):
        return (), frozenset()
    return pending.answered(answer), frozenset({pending.run_id, ctx.event.event_id, *pending.events})


def _load(value: Any) -> Pending | None:
    try:
        if value["schema_version"] != SCHEMA_VERSION:
            return None
        return Pending(
            str(value["run_id"]),
            str(value["interaction_id"]),
            str(value["call_id"]),
            {str(name): str(label) for name, label in value["options"].items()},
            [str(one) for one in value["events"]],
            [_load_turn(turn) for turn in value["turns"]],
        )
    except (TypeError, KeyError, ValueError, AttributeError, DecodeError):
        return None


def _dump_turn(turn: Turn) -> dict[str, Any]:
    raw = []
    for message in turn.messages:
        wire = run_model_pb2.ModelMessage()
        write(message, wire)
        raw.append(base64.b64encode(wire.SerializeToString()).decode("ascii"))
    return {"is_round": turn.is_round, "messages": raw}


def _load_turn(value: Any) -> Turn:
    raw = [base64.b64decode(one, validate=True) for one in value["messages"]]
    messages = tuple(read(ModelMessage, run_model_pb2.ModelMessage.FromString(one)) for one in raw)
    return Turn(messages, is_round=bool(value["is_round"]))


def _fitting(turns: Sequence[Turn]) -> Sequence[Turn]:
    kept = list(turns)
    if _size(kept) > MAX_BYTES:
        kept = [clipped(turn, CLIPPED_RESULT) for turn in kept]
    while _size(kept) > MAX_BYTES and len(kept) > 2:
        # The first is what the person asked for, the last is the question.
        del kept[1]
    return kept if _size(kept) <= MAX_BYTES else [clipped(turn, CLIPPED_RESULT // 10) for turn in kept[-1:]]


def _size(turns: Sequence[Turn]) -> int:
    return sum(len(text) for turn in turns for text in _dump_turn(turn)["messages"])
