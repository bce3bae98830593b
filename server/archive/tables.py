"""The tables of a host as rows of plain values, the same on every database."""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Integer, LargeBinary

from portway.server.storage_engine.schema import metadata
from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue

_FIRST_PAGE = 256
_PAGE_BYTES = 8 * 1024 * 1024
_MOST = 2_000


@dataclass(frozen=True, slots=True)
class TableShape:
    """`key`: the primary key's columns; `octets`: those that hold bytes; `numbers`: numbers."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    octets: frozenset[str]
    numbers: frozenset[str]


def shapes() -> list[TableShape]:
    """Every table of the schema, in a stable order."""
    return [
        TableShape(
            name=table.name,
            columns=tuple(column.name for column in table.columns),
            key=tuple(column.name for column in table.primary_key.columns),
            octets=frozenset(column.name for column in table.columns if isinstance(column.type, LargeBinary)),
            numbers=frozenset(column.name for column in table.columns if isinstance(column.type, Integer)),
        )
        for table in sorted(metadata.tables.values(), key=lambda table: table.name)
    ]


def read_rows(tx: ReadTransaction, shape: TableShape) -> Iterator[Sequence[Row]]:
    """The table in pages, by its key. A page holds so many rows that it stays within some MiB."""
    names = ", ".join(quoted(column) for column in shape.columns)
    key = ", ".join(quoted(column) for column in shape.key)
    after = ", ".join(f":after_{column}" for column in shape.key)
    places = [shape.columns.index(column) for column in shape.key]
    first = f"SELECT {names} FROM {shape.name} ORDER BY {key} LIMIT :limit"
    later = f"SELECT {names} FROM {shape.name} WHERE ({key}) > ({after}) ORDER BY {key} LIMIT :limit"
    sql, params, limit = first, dict[str, SqlValue](), _FIRST_PAGE
    while rows := tx.all(sql, {**params, "limit": limit}):
        yield rows
        last = rows[-1]
        params = {f"after_{column}": last[place] for column, place in zip(shape.key, places, strict=True)}
        sql = later
        size = sum(len(value) for row in rows for value in row if isinstance(value, bytes | str))
        limit = max(1, min(_MOST, _PAGE_BYTES * len(rows) // max(size, 1)))


def encode(shape: TableShape, row: Row) -> bytes:
    """One line of JSON; bytes as base64."""
    values = [
        b64encode(value).decode() if column in shape.octets and value is not None else value
        for column, value in zip(shape.columns, row, strict=True)
    ]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def decode(shape: TableShape, columns: Sequence[str], line: bytes) -> dict[str, SqlValue]:
    """The row by column. Columns that this version does not have are left out."""
    row: dict[str, SqlValue] = {}
    for column, value in zip(columns, json.loads(line), strict=True):
        if column in shape.octets and value is not None:
            row[column] = b64decode(value, validate=True)
        elif column in shape.columns:
            row[column] = value
    return row


def count_rows(tx: ReadTransaction) -> dict[str, int]:
    """How many rows each table has."""
    counts: dict[str, int] = {}
    for shape in shapes():
        row = tx.one(f"SELECT COUNT(*) FROM {shape.name}")
        counts[shape.name] = int(row[0]) if row else 0
    return counts


def quoted(name: str) -> str:
    """`key` is a word of SQL's own."""
    return f'"{name}"'
