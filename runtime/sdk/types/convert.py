"""Turns the contract's messages into the SDK's dataclasses and back.

A dataclass mirrors a message: fields go by name, and the type hint says how. How to do it is worked out once per class.
`Annotated[X, Codec(…)]` is for what has another shape in Python than on the wire.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from functools import cache
from typing import Any, TypeVar, cast

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value

T = TypeVar("T")
M = TypeVar("M", bound=Message)
E = TypeVar("E", bound=IntEnum)

# A JSON object: the keys are texts, the values what JSON knows.
Json = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """Reads a message into a value and writes a value into a message of the right type."""

    read: Callable[[Any], Any]
    write: Callable[[Any, Any], None]


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    name: str
    read: Callable[[Message], Any]
    write: Callable[[Any, Message], None]


def read(cls: type[T], message: Message) -> T:
    """The dataclass `cls` with what `message` holds."""
    return cls(**{field.name: field.read(message) for field in _fields(cast(Hashable, cls))})


def write(value: Any, message: M) -> M:
    """Fills `message` with what the dataclass `value` holds, and returns it."""
    for field in _fields(cast(Hashable, type(value))):
        field.write(getattr(value, field.name), message)
    return message


def read_json(struct: Struct) -> dict[str, Any]:
    return {key: _read_value(value) for key, value in struct.fields.items()}


def write_json(value: Json, struct: Struct) -> None:
    struct.update(dict(value))


def _read_value(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return read_json(value.struct_value)
        case "list_value":
            return [_read_value(one) for one in value.list_value.values]
        case "number_value":
            # Whole numbers are whole to people and to JSON Schema, though the wire has only doubles.
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def _write_any(content: Any, value: Value) -> None:
    holder = ListValue()
    holder.append(content)
    value.CopyFrom(holder.values[0])


ANY_JSON = Codec(_read_value, _write_any)


@cache
def _fields(cls: Any) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(_field(field.name, hints[field.name]) for field in dataclasses.fields(cls))


def _field(name: str, hint: Any) -> _Field:
    inner, optional = _without_none(hint)
    origin = typing.get_origin(inner)
    if origin is tuple:
        return _list_field(name, typing.get_args(inner)[0])
    if origin is not None and inner != Json and issubclass(cast(type, origin), Mapping):
        return _map_field(name, typing.get_args(inner)[1])
    codec = _codec(inner)
    if codec is not None:
        return _message_field(name, codec, optional)
    return _scalar_field(name, inner, optional)


def _without_none(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [one for one in typing.get_args(hint) if one is not types.NoneType]
        if len(members) == 1:
            return members[0], True
        raise TypeError(f"a union on the wire needs a codec: {hint}")
    return hint, False


def _codec(hint: Any) -> Codec | None:
    """How a hint that stands for a message is read and written; None for scalars."""
    if typing.get_origin(hint) is typing.Annotated:
        return next(one for one in typing.get_args(hint) if isinstance(one, Codec))
    if hint == Json:
        return Codec(read_json, write_json)
    if hint is datetime:
        return Codec(lambda message: message.ToDatetime(UTC), lambda value, message: message.FromDatetime(value))
    if hint is timedelta:
        return Codec(lambda message: message.ToTimedelta(), lambda value, message: message.FromTimedelta(value))
    if dataclasses.is_dataclass(hint):
        return Codec(lambda message: read(cast(type, hint), message), lambda value, message: write(value, message))
    return None


def _message_field(name: str, codec: Codec, optional: bool) -> _Field:
    def get(message: Message) -> Any:
        if optional and not message.HasField(name):
            return None
        return codec.read(getattr(message, name))

    def put(value: Any, message: Message) -> None:
        if value is not None:
            inner = getattr(message, name)
            inner.SetInParent()
            codec.write(value, inner)

    return _Field(name, get, put)


def _scalar_field(name: str, hint: Any, optional: bool) -> _Field:
    is_enum = _is_enum(hint)

    def get(message: Message) -> Any:
        if optional and not message.HasField(name):
            return None
        value = getattr(message, name)
        return as_enum(hint, value) if is_enum else value

    def put(value: Any, message: Message) -> None:
        if value is not None:
            setattr(message, name, value)

    return _Field(name, get, put)


def _is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, IntEnum)


def as_enum(cls: type[E], number: int) -> E:
    """A number that this version does not know counts as not set."""
    try:
        return cls(number)
    except ValueError:
        return cls(0)


def _list_field(name: str, hint: Any) -> _Field:
    codec = _codec(hint)
    is_enum = _is_enum(hint)

    def get(message: Message) -> Any:
        values = getattr(message, name)
        if codec is not None:
            return tuple(codec.read(one) for one in values)
        return tuple(as_enum(hint, one) for one in values) if is_enum else tuple(values)

    def put(value: Any, message: Message) -> None:
        values = getattr(message, name)
        if codec is None:
            values.extend(value)
            return
        for one in value:
            codec.write(one, values.add())

    return _Field(name, get, put)


def _map_field(name: str, hint: Any) -> _Field:
    codec = _codec(hint)

    def get(message: Message) -> Any:
        values = getattr(message, name)
        return dict(values) if codec is None else {key: codec.read(one) for key, one in values.items()}

    def put(value: Any, message: Message) -> None:
        values = getattr(message, name)
        if codec is None:
            values.update(value)
            return
        for key, one in value.items():
            codec.write(one, values[key])

    return _Field(name, get, put)
