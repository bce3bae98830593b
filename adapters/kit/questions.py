"""Questions to people as a platform shows them, and their answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.json_format import MessageToDict, ParseDict

from portway.v1 import content_pb2, interaction_pb2

_KINDS = {
    "form": interaction_pb2.INTERACTION_KIND_FORM,
    "confirmation": interaction_pb2.INTERACTION_KIND_CONFIRMATION,
    "choice": interaction_pb2.INTERACTION_KIND_CHOICE,
}


@dataclass(frozen=True, slots=True)
class Question:
    """A question of the transcript. `shown` is the contract's message as JSON; `state`: `open`, `answered`, `expired`
    or `withdrawn`; `answer` is what was submitted, as JSON."""

    run_id: str
    shown: Mapping[str, object]
    state: str
    is_approval: bool
    answer: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person submitted."""

    run_id: str
    interaction_id: str
    action_id: str
    values: Mapping[str, object] = field(default_factory=dict)


def kinds_of(names: tuple[str, ...]) -> "list[interaction_pb2.InteractionKind.ValueType]":
    """The kinds that a surface shows natively, by their names."""
    return [_KINDS[name] for name in names]


def question_of(part: content_pb2.QuestionPart) -> Question:
    state = interaction_pb2.InteractionState.Name(part.state).removeprefix("INTERACTION_STATE_").lower()
    shown = MessageToDict(part.interaction, preserving_proto_field_name=True)
    answer = MessageToDict(part.answer, preserving_proto_field_name=True) if part.HasField("answer") else {}
    return Question(part.run_id, shown, state, bool(part.approval_id), answer)


def answer_message(answer: Answer, actor_id: str) -> interaction_pb2.InteractionAnswer:
    message = interaction_pb2.InteractionAnswer(
        run_id=answer.run_id, interaction_id=answer.interaction_id, action_id=answer.action_id, actor_id=actor_id
    )
    ParseDict(dict(answer.values), message.values)
    return message
