"""What differs between what is declared and what is there; secrets are never shown.

Only what a file says is compared: the host fills in the rest. What an earlier apply said and the file no longer does
goes back to what the host would have chosen.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from portway.clients.declarative.documents import MASK, Document, Place, is_reference
from portway.clients.declarative.kinds import Kind
from portway.rpc.redaction import is_secret_key

HIDDEN = "(secret)"
_NOTHING: tuple[object, ...] = (None, {}, [], "0s", "")


def plain(kind: Kind, message: Message) -> dict[str, Any]:
    """The fields that can be declared, without those that have their default."""
    fields: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return {name: value for name, value in fields.items() if name not in kind.given}


def places_of(value: object, place: Place = ()) -> Iterator[Place]:
    """Every field that a declaration says, to the innermost."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from places_of(item, (*place, str(name)))
    else:
        yield place


def differences(document: Document, current: Message, before: Iterable[Place] = ()) -> list[str]:
    """One line for each field that would change; none: nothing would. `before`: what the last apply said."""
    kind = document.kind
    wanted, there = plain(kind, document.wanted), plain(kind, current)
    for name in kind.secrets():
        if getattr(current, f"has_{name}", False):
            # It is there and never shown: whether it is the same cannot be told.
            there[name] = MASK
    found: list[str] = []
    for place in (*places_of(document.fields), *dropped(document, before)):
        old, new = _at(there, place), _at(wanted, place)
        if old != new and not (old in _NOTHING and new in _NOTHING) and not (old == MASK and new is not None):
            found.append(f"{'.'.join(place)}: {_shown(place, old)} -> {_shown(place, new)}")
    return found


def dropped(document: Document, before: Iterable[Place]) -> list[Place]:
    """What the last apply said and this one does not."""
    declared = list(places_of(document.fields))
    return [
        place for place in before if not any(one[: len(place)] == place or place[: len(one)] == one for one in declared)
    ]


def merged(document: Document, current: Message, before: Iterable[Place]) -> Message:
    """What is there, with what is declared in its place: the message of an update. Raises InvalidInput."""
    kind = document.kind
    fields = plain(kind, current)
    for place in dropped(document, before):
        _remove(fields, place)
    _overlay(fields, plain(kind, document.resolved(masked=True)), document.fields)
    message = kind.message()
    ParseDict(fields, message)
    return message


def _overlay(target: dict[str, Any], wanted: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
    for name, said in declared.items():
        value = wanted.get(name)
        if isinstance(said, Mapping) and said and isinstance(target.get(name), dict):
            _overlay(target[name], value if isinstance(value, Mapping) else {}, said)
        elif value is None:
            target.pop(name, None)
        else:
            target[name] = value


def _at(fields: object, place: Place) -> Any:
    for name in place:
        if not isinstance(fields, Mapping):
            return None
        fields = fields.get(name)
    return fields


def _remove(fields: dict[str, Any], place: Place) -> None:
    inner = _at(fields, place[:-1])
    if isinstance(inner, dict):
        inner.pop(place[-1], None)


def _shown(place: Place, value: object) -> str:
    if value is None:
        return "(none)"
    if value == MASK or is_reference(value) or any(is_secret_key(name) for name in place):
        return HIDDEN
    return str(value) if not isinstance(value, str) else repr(value)
