"""What must not leave, replaced in everything that a run says: patterns of the agent's operator, in linear time."""

from collections.abc import Sequence
from functools import lru_cache

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from portway.server.agents.types import AgentSpec
from portway.server.bindings.patterns import replaced

HIDDEN = "***"
# Names of the host's own; everything else may hold what somebody has written.
_KEPT_ENDINGS = ("_id", "_ids", "_key", "cursor")
_KEPT = frozenset(
    ("id", "surface", "code", "kind", "type", "mime_type", "sha256", "locale", "tool", "currency", "outcome")
)
_STRING, _MESSAGE = FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE


def mask_text(patterns: Sequence[str], text: str) -> str:
    """The text with everything that matches replaced."""
    for pattern in patterns:
        text = replaced(pattern, text, HIDDEN)
    return text


def mask_message(patterns: Sequence[str], message: Message) -> None:
    """Every text in it, in place: parts, captions, arguments, errors, labels. Ids and codes stay as they are.

    Streamed text is not masked piece by piece: what matches may lie across the border of two. An agent with patterns
    shows its text when it is whole.
    """
    for field, value in message.ListFields():
        if field.type == _MESSAGE:
            _mask_nested(patterns, field, value)
        elif field.type == _STRING and not _is_kept(field.name):
            if _is_repeated(field):
                for index, text in enumerate(value):
                    value[index] = mask_text(patterns, text)
            else:
                setattr(message, field.name, mask_text(patterns, value))


def masks_of(spec: AgentSpec | None) -> tuple[str, ...]:
    """The patterns of an agent; none where it is gone."""
    return spec.guards.masked_outbound_patterns if spec is not None else ()


def _mask_nested(patterns: Sequence[str], field: FieldDescriptor, value: object) -> None:
    if not _is_repeated(field):
        assert isinstance(value, Message)
        mask_message(patterns, value)
        return
    entry = field.message_type
    assert entry is not None, "a message field has a message type"
    if not entry.GetOptions().map_entry:
        for one in value:  # type: ignore[attr-defined]  # a repeated message field
            mask_message(patterns, one)
        return
    kind = entry.fields_by_name["value"].type
    for key in list(value):  # type: ignore[call-overload]  # a map field
        if kind == _MESSAGE:
            mask_message(patterns, value[key])  # type: ignore[index]
        elif kind == _STRING:
            value[key] = mask_text(patterns, value[key])  # type: ignore[index]


@lru_cache(maxsize=1_024)
def _is_kept(name: str) -> bool:
    return name in _KEPT or name.endswith(_KEPT_ENDINGS)


def _is_repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)
