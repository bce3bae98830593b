"""What a person may submit for a field."""

import math
from collections.abc import Iterator

from google.protobuf.struct_pb2 import Value

from portway.rpc.errors import FieldViolation
from portway.v1 import interaction_pb2 as pb

# A button of this id gives a form up: nothing has to be filled in for it.
GIVE_UP = "cancel"
MAX_TEXT = 64 * 1024
LISTS = (pb.INTERACTION_FIELD_TYPE_SELECT, pb.INTERACTION_FIELD_TYPE_MULTISELECT)


def violations_of(question: pb.Interaction, answer: pb.InteractionAnswer) -> list[FieldViolation]:
    """Everything that is wrong with an answer, each with its path in the request."""
    return list(_all(question, answer))


def file_ids(question: pb.Interaction, answer: pb.InteractionAnswer) -> list[tuple[str, str]]:
    """Field and artifact of each file that was submitted."""
    return [
        (field.id, answer.values.fields[field.id].string_value)
        for field in question.fields
        if field.type == pb.INTERACTION_FIELD_TYPE_FILE and answer.values.fields.get(field.id, Value()).string_value
    ]


def wrong_value(field: pb.InteractionField, value: Value) -> str:
    """Why the value does not fit the field; '' where it does."""
    match field.type:
        case pb.INTERACTION_FIELD_TYPE_TEXT | pb.INTERACTION_FIELD_TYPE_TEXTAREA:
            return _wrong_text(field, value)
        case pb.INTERACTION_FIELD_TYPE_SELECT:
            return _wrong_choice(field, value)
        case pb.INTERACTION_FIELD_TYPE_MULTISELECT:
            if not value.HasField("list_value"):
                return "must be a list of choices"
            chosen = [one.string_value for one in value.list_value.values]
            wrong = next((bad for one in value.list_value.values if (bad := _wrong_choice(field, one))), "")
            return wrong or ("names a choice twice" if len(set(chosen)) < len(chosen) else "")
        case pb.INTERACTION_FIELD_TYPE_NUMBER:
            if not value.HasField("number_value") or not math.isfinite(value.number_value):
                return "must be a number"
            return ""
        case pb.INTERACTION_FIELD_TYPE_BOOLEAN:
            return "" if value.HasField("bool_value") else "must be true or false"
        case pb.INTERACTION_FIELD_TYPE_FILE:
            return "" if value.HasField("string_value") else "must be the id of an artifact that was uploaded before"
        case _:
            return "is of a type that this version does not know"


def _wrong_text(field: pb.InteractionField, value: Value) -> str:
    if not value.HasField("string_value"):
        return "must be text"
    if len(value.string_value) > MAX_TEXT:
        return f"has at most {MAX_TEXT:,} characters"
    if field.type == pb.INTERACTION_FIELD_TYPE_TEXT and "\n" in value.string_value:
        return "must be one line"
    return ""


def _wrong_choice(field: pb.InteractionField, value: Value) -> str:
    if not value.HasField("string_value"):
        return "must be one of the choices, as text"
    if value.string_value not in {option.value for option in field.options}:
        return f"{value.string_value[:64]!r} is none of the choices"
    return ""


def _all(question: pb.Interaction, answer: pb.InteractionAnswer) -> Iterator[FieldViolation]:
    if answer.action_id not in {action.id for action in question.actions} and (
        answer.action_id or len(question.actions) != 1
    ):
        names = ", ".join(action.id for action in question.actions)
        yield FieldViolation("answer.action_id", f"is none of the buttons: {names}")
    known = {field.id: field for field in question.fields}
    for name, value in answer.values.fields.items():
        field = known.get(name)
        if field is None:
            yield FieldViolation(f"answer.values.{name}", "the question has no such field")
        elif not _is_empty(value) and (wrong := wrong_value(field, value)):
            yield FieldViolation(f"answer.values.{name}", wrong)
    if answer.action_id == GIVE_UP:
        return
    for field in question.fields:
        if field.required and _is_empty(answer.values.fields.get(field.id, Value())):
            yield FieldViolation(f"answer.values.{field.id}", "is required")


def _is_empty(value: Value) -> bool:
    kind = value.WhichOneof("kind")
    if kind in (None, "null_value"):
        return True
    if kind == "string_value":
        return not value.string_value.strip()
    return kind == "list_value" and not value.list_value.values
