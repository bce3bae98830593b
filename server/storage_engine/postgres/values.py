"""How values travel: the same kinds as on SQLite, so that stores need not know where they are kept."""

import struct
from enum import Enum
from typing import Any

from psycopg import Connection
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format

_INT8, _TEXT, _NUMERIC, _BOOL = 20, 25, 1700, 16

NUL_STAND_IN = "\N{SYMBOL FOR NULL}"
"""PostgreSQL's text cannot hold U+0000. What a person sent is kept readable rather than refused."""


class _Integer(Dumper):
    """Every whole number and flag is a bigint: one prepared statement, whatever the size of the number."""

    format = Format.BINARY
    oid = _INT8

    def dump(self, obj: Any) -> Buffer | None:
        return struct.pack("!q", obj)


class _Text(Dumper):
    """Declared as text, so that a parameter alone has a type."""

    format = Format.BINARY
    oid = _TEXT

    def dump(self, obj: Any) -> Buffer | None:
        text = str(obj.value) if isinstance(obj, Enum) else obj
        return (text.replace("\0", NUL_STAND_IN) if "\0" in text else text).encode()


class _Number(Loader):
    """A sum of bigints is a numeric there and an integer on SQLite."""

    format = Format.TEXT

    def load(self, data: Buffer) -> int | float:
        text = bytes(data)
        return float(text) if b"." in text or b"N" in text else int(text)


class _Flag(Loader):
    """A comparison is a boolean there and 0 or 1 on SQLite."""

    format = Format.TEXT

    def load(self, data: Buffer) -> int:
        return int(bytes(data) == b"t")


def adapt(connection: Connection[Any]) -> None:
    """Teach a new connection."""
    adapters = connection.adapters
    adapters.register_dumper(int, _Integer)
    adapters.register_dumper(bool, _Integer)
    adapters.register_dumper(str, _Text)
    adapters.register_dumper(Enum, _Text)
    adapters.register_loader(_NUMERIC, _Number)
    adapters.register_loader(_BOOL, _Flag)
