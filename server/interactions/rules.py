"""What a question must be before people see it."""

from collections.abc import Iterator

from portway.rpc.errors import FieldViolation, InvalidInput, PayloadTooLarge
from portway.server.interactions.values import LISTS, wrong_value
from portway.server.storage_engine.clock import SECOND, Micros
from portway.v1 import interaction_pb2 as pb

MAX_BYTES = 256 * 1024
DEFAULT_SECONDS = 30 * 60
MAX_SECONDS = 24 * 60 * 60

_YES = pb.InteractionAction(id="yes", label="Yes", style=pb.ACTION_STYLE_PRIMARY)
_NO = pb.InteractionAction(id="no", label="No")
_SUBMIT = pb.InteractionAction(id="submit", label="Submit", style=pb.ACTION_STYLE_PRIMARY)


def checked(asked: pb.Interaction, now: Micros) -> pb.Interaction:
    """The question as people see it: with its expiry and its buttons. Raises PayloadTooLarge, InvalidInput."""
    if asked.ByteSize() > MAX_BYTES:
        raise PayloadTooLarge(f"the question has {asked.ByteSize():,} bytes; {MAX_BYTES:,} are the most")
    question = pb.Interaction()
    question.CopyFrom(asked)
    violations = [*_shape(question), *_times(question, now), *_fields(question)]
    if violations:
        raise InvalidInput("; ".join(f"{one.field}: {one.description}" for one in violations), fields=violations)
    if not question.HasField("expire_time"):
        question.expire_time.FromMicroseconds(now + DEFAULT_SECONDS * SECOND)
    if not question.actions:
        question.actions.extend([_YES, _NO] if question.kind == pb.INTERACTION_KIND_CONFIRMATION else [_SUBMIT])
    return question


def _shape(question: pb.Interaction) -> Iterator[FieldViolation]:
    if not question.fallback_text.strip():
        yield FieldViolation("interaction.fallback_text", "is required, for surfaces that cannot show the question")
    if question.kind == pb.INTERACTION_KIND_FORM and not question.fields:
        yield FieldViolation("interaction.fields", "a form has at least one")
    if question.kind == pb.INTERACTION_KIND_CHOICE and not question.actions:
        yield FieldViolation("interaction.actions", "a choice has at least one")
    yield from _twice("interaction.fields", [field.id for field in question.fields])
    yield from _twice("interaction.actions", [action.id for action in question.actions])


def _times(question: pb.Interaction, now: Micros) -> Iterator[FieldViolation]:
    if not question.HasField("expire_time"):
        return
    left = question.expire_time.ToMicroseconds() - now
    if left <= 0:
        yield FieldViolation("interaction.expire_time", "is over already by the host's clock")
    elif left > MAX_SECONDS * SECOND:
        yield FieldViolation("interaction.expire_time", "is at most 24 hours away by the host's clock")


def _fields(question: pb.Interaction) -> Iterator[FieldViolation]:
    for index, field in enumerate(question.fields):
        path = f"interaction.fields[{index}]"
        if field.type in LISTS:
            if not field.options:
                yield FieldViolation(f"{path}.options", "has at least one choice")
            yield from _twice(f"{path}.options", [option.value for option in field.options])
        elif field.options:
            yield FieldViolation(f"{path}.options", "only a select or multiselect has choices")
        if field.HasField("default_value"):
            wrong = wrong_value(field, field.default_value)
            if field.type == pb.INTERACTION_FIELD_TYPE_FILE:
                wrong = "a file has no default"
            if wrong:
                yield FieldViolation(f"{path}.default_value", wrong)


def _twice(path: str, names: list[str]) -> Iterator[FieldViolation]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield FieldViolation(f"{path}[{index}]", f"{name!r} is there twice")
        seen.add(name)
