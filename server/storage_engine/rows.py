"""Between frozen dataclasses and rows."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, cast

from portway.server.storage_engine.transaction import Row, SqlValue


@cache
def _names(kind: Callable[..., object]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cast(Any, kind)))


def columns(kind: type, *except_for: str) -> str:
    """The fields of a dataclass as a column list, in their order."""
    return ", ".join(name for name in _names(kind) if name not in except_for)


def values(record: object, **more: SqlValue) -> dict[str, SqlValue]:
    """The fields of a dataclass instance as parameters, and more of them. The fields hold nothing but column values."""
    row: dict[str, SqlValue] = {
        name: getattr(record, name) for name in _names(cast(Callable[..., object], type(record)))
    }
    row.update(more)
    return row


def typed(row: Row, *conversions: tuple[int, Callable[[Any], object]]) -> Row:
    """The row with some of its places converted: enums, flags, documents."""
    converted = list(row)
    for place, convert in conversions:
        converted[place] = convert(converted[place])
    return tuple(converted)


def one_of(column: str, choices: Sequence[str]) -> tuple[str, dict[str, SqlValue]]:
    """A condition and its parameters: the column is one of the choices; without choices, anything."""
    if not choices:
        return "true", {}
    names = [f"{column}_{number}" for number in range(len(choices))]
    return f"{column} IN ({', '.join(f':{name}' for name in names)})", dict(zip(names, choices, strict=True))
