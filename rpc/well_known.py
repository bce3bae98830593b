"""Times beyond the calendar, and numbers that JSON has not: they can be written on the wire, and neither computed with
nor kept; and no rule of a field says so."""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from portway.rpc.errors import FieldViolation

_TIMESTAMP, _DURATION, _VALUE = (f"google.protobuf.{name}" for name in ("Timestamp", "Duration", "Value"))
# From the first second of the year 1 to the last one of 9999, and as many years to either side.
_FIRST, _LAST = -62_135_596_800, 253_402_300_799
# Added to the time of today, it is still in the calendar.
_LONGEST = 31_557_600_000
_NANOS = 1_000_000_000


def not_well_known(message: Message) -> Iterator[FieldViolation]:
    """One violation for each Timestamp and Duration inside that is none, and each number of a Struct that is none."""
    ways = _ways(message.DESCRIPTOR)
    return _wrong_inside(message, ways, "") if ways else iter(())


def _wrong_inside(message: Any, ways: tuple[FieldDescriptor, ...], path: str) -> Iterator[FieldViolation]:
    for field in ways:
        for step, one in _present(message, field):
            name = one.DESCRIPTOR.full_name
            if name == _TIMESTAMP:
                if not (_FIRST <= one.seconds <= _LAST and 0 <= one.nanos < _NANOS):
                    yield FieldViolation(path + step, "is not in the years 1 to 9999")
            elif name == _DURATION:
                if not _is_duration(one.seconds, one.nanos):
                    yield FieldViolation(path + step, "is not a duration of at most 1000 years")
            elif name == _VALUE and one.HasField("number_value"):
                if not math.isfinite(one.number_value):
                    yield FieldViolation(path + step, "is not a number that JSON has")
            else:
                yield from _wrong_inside(one, _ways(one.DESCRIPTOR), f"{path}{step}.")


def _is_duration(seconds: int, nanos: int) -> bool:
    return abs(seconds) <= _LONGEST and abs(nanos) < _NANOS and not (seconds < 0 < nanos or nanos < 0 < seconds)


def _present(message: Any, field: FieldDescriptor) -> Iterator[tuple[str, Any]]:
    """What the field holds, each with its step on the path."""
    assert field.message_type is not None
    if field.message_type.GetOptions().map_entry:
        for key, value in getattr(message, field.name).items():
            yield f"{field.name}[{key!r}]", value
    elif field.is_repeated:
        for index, value in enumerate(getattr(message, field.name)):
            yield f"{field.name}[{index}]", value
    elif message.HasField(field.name):
        yield field.name, getattr(message, field.name)


@cache
def _ways(descriptor: Descriptor) -> tuple[FieldDescriptor, ...]:
    """The fields of a message that hold such things, or messages that do: of many messages, none."""
    return tuple(field for field in descriptor.fields if _leads_there(field, frozenset()))


def _leads_there(field: FieldDescriptor, above: frozenset[str]) -> bool:
    inside = _held(field)
    if inside is None or inside.full_name in above:
        return False
    if inside.full_name in (_TIMESTAMP, _DURATION, _VALUE):
        return True
    return any(_leads_there(one, above | {inside.full_name}) for one in inside.fields)


def _held(field: FieldDescriptor) -> Descriptor | None:
    """The message in a field; of a map, the one among its values."""
    inside: Descriptor | None = field.message_type
    if inside is not None and inside.GetOptions().map_entry:
        inside = inside.fields_by_name["value"].message_type
    return inside
