"""The metadata that every noun's tables join, and its few kinds of column.

Missing text is '', a missing time or count is 0, as in the messages; NULL only where "unknown" differs from zero.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Text
from sqlalchemy import text as literal
from sqlalchemy.dialects import postgresql

metadata = MetaData()

# Compared byte by byte on both databases: order, prefixes and cursors must not depend on a server's language.
_TEXT = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def text(name: str, primary_key: bool = False) -> Column[Any]:
    """Text, '' when there is none. Ids, names, enums, JSON."""
    return Column(name, _TEXT, primary_key=primary_key, nullable=False, server_default=None if primary_key else "")


def number(name: str, primary_key: bool = False) -> Column[Any]:
    """A count, a sequence, a flag (0 or 1) or a time in microseconds."""
    return Column(
        name,
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=primary_key,
        autoincrement=False,
        nullable=False,
        server_default=None if primary_key else "0",
    )


def optional_number(name: str) -> Column[Any]:
    """A count that may be unknown."""
    return Column(name, BigInteger().with_variant(Integer, "sqlite"), nullable=True)


def row_number(name: str) -> Column[Any]:
    """A number that the database gives to each row: a handle inside one table, never an order and never shown."""
    return Column(name, BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


def octets(name: str) -> Column[Any]:
    """Bytes."""
    return Column(name, LargeBinary, nullable=False)


def only(condition: str) -> dict[str, Any]:
    """An index that holds only the rows of a condition, on both databases."""
    return {"sqlite_where": literal(condition), "postgresql_where": literal(condition)}
