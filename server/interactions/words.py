"""An answer in words, for lists and for searching."""

from google.protobuf.json_format import MessageToDict

from portway.v1 import interaction_pb2 as pb

MAX_CHARS = 1_000


def summary_of(question: pb.Interaction, answer: pb.InteractionAnswer) -> str:
    """`Title: Label — Field: value`, at most 1,000 characters."""
    labels = {action.id: action.label or action.id for action in question.actions}
    values = MessageToDict(answer.values)
    said = [labels.get(answer.action_id, answer.action_id)] if answer.action_id else []
    for field in question.fields:
        if field.id in values:
            said.append(f"{field.label or field.id}: {_words(field, values[field.id])}")
    title = question.title or question.interaction_id
    return f"{title}: {' — '.join(said)}"[:MAX_CHARS]


def _words(field: pb.InteractionField, value: object) -> str:
    labels = {option.value: option.label or option.value for option in field.options}
    if isinstance(value, list):
        return ", ".join(labels.get(str(one), str(one)) for one in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return labels.get(str(value), str(value))
