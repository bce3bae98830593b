"""Messages as people write them: YAML or JSON with short enum names, spans in seconds, and mistakes that are named.

A span is a number of seconds, or text such as `300s`; an enum value is its name with or without the prefix of its enum.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import TypeVar

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from portway.rpc.configuration import ConfigurationError
from portway.rpc.errors import InvalidInput
from portway.rpc.validation import check

M = TypeVar("M", bound=Message)

_FREE = ("google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue")
_DURATION = "google.protobuf.Duration"


def message_from(kind: type[M], written: object, place: str) -> M:
    """The message. Raises ConfigurationError naming the place of a mistake; its text shows no value."""
    message = kind()
    plain = _object(kind.DESCRIPTOR, written, place)
    try:
        ParseDict(plain, message)
    except ParseError as error:
        # The library's text names the field and may show the value: only its first words are ours to pass on.
        raise ConfigurationError(f"{place}: {str(error).split(':')[0]}") from error
    try:
        check(message)
    except InvalidInput as error:
        said = "; ".join(f"`{place}.{one.field}` {one.description}" for one in error.fields)
        raise ConfigurationError(said or f"{place}: {error.message}") from error
    return message


def _object(descriptor: "object", written: object, place: str) -> dict[str, object]:
    if not isinstance(written, Mapping):
        raise ConfigurationError(f"`{place}` must hold keys and values")
    fields: Mapping[str, FieldDescriptor] = descriptor.fields_by_name  # type: ignore[attr-defined]  # of a message
    plain: dict[str, object] = {}
    for key, value in written.items():
        field = fields.get(str(key))
        if field is None:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(sorted(fields))}"
            raise ConfigurationError(f"`{place}`: unknown key `{key}`; {hint}")
        if value is not None:
            plain[str(key)] = _field(field, value, f"{place}.{key}")
    return plain


def _field(field: FieldDescriptor, value: object, place: str) -> object:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"`{place}` must hold keys and values")
        item = inner.fields_by_name["value"]
        return {str(key): _single(item, one, f"{place}.{key}") for key, one in value.items()}
    if field.is_repeated:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ConfigurationError(f"`{place}` must be a list")
        return [_single(field, one, f"{place}[{index}]") for index, one in enumerate(value)]
    return _single(field, value, place)


def _single(field: FieldDescriptor, value: object, place: str) -> object:
    if field.message_type is not None:
        name = field.message_type.full_name
        if name in _FREE:
            return value
        if name == _DURATION:
            return f"{value}s" if isinstance(value, int | float) and not isinstance(value, bool) else value
        return _object(field.message_type, value, place)
    if field.enum_type is not None:
        return _enum(field.enum_type, value, place)
    return value


def _enum(kind: EnumDescriptor, value: object, place: str) -> object:
    prefix = kind.values_by_number[0].name.removesuffix("UNSPECIFIED")
    names = {one.name: one.name for one in kind.values}
    short = {name.removeprefix(prefix).lower(): name for name in names}
    found = names.get(str(value)) or short.get(str(value).lower())
    if found is None:
        known = ", ".join(name for name in short if name != "unspecified")
        raise ConfigurationError(f"`{place}` must be one of {known}")
    return found
