"""Frozen dataclasses as JSON text, for what is read and written whole: policies, filters, capabilities.

A field that the text lacks takes its default and one that the class lacks is dropped, so that neither a newer nor an
older version of a document stops the host.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from portway.rpc.errors import DataLoss

D = TypeVar("D")


def to_json(document: object) -> str:
    """Compact, keys in a stable order: equal documents give equal text."""
    return json.dumps(_plain(document), ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def from_json(kind: type[D], text: str) -> D:
    """Raises DataLoss when the text is not such a document."""
    try:
        return cast(D, _typed(kind, json.loads(text)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataLoss(f"A stored {kind.__name__} cannot be read: {error}.") from error


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(cast("frozenset[str]", value))
    if isinstance(value, Enum):
        return value.value
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _typed(kind: Any, value: Any) -> Any:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        members = [member for member in get_args(kind) if member is not NoneType]
        return None if value is None else _typed(members[0], value)
    if origin is tuple:
        return tuple(_typed(get_args(kind)[0], item) for item in value)
    if origin is frozenset:
        return frozenset(_typed(get_args(kind)[0], item) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        inner = get_args(kind)[1]
        return {key: _typed(inner, item) for key, item in value.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        known = {field.name for field in fields(kind)}
        return kind(**{name: _typed(hints[name], item) for name, item in value.items() if name in known})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return value
