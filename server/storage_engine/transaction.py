"""What a unit of work and a query may do with the database.

SQL is fixed text with `:name` parameters and only what SQLite and PostgreSQL both understand
(`ON CONFLICT`, `RETURNING`, partial indexes), so that the same stores run on both.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from portway.server.storage_engine.clock import Micros
from portway.server.storage_engine.dialect import Dialect

SqlValue: TypeAlias = str | int | float | bytes | None
Params: TypeAlias = Mapping[str, SqlValue]
Row: TypeAlias = tuple[Any, ...]

T = TypeVar("T")

NO_PARAMS: Params = {}


class StatementError(Exception):
    """A statement is wrong or breaks a constraint: a bug of whoever wrote it. Names the SQL, never the parameters."""


class ReadTransaction(Protocol):
    """One consistent view of the database."""

    @property
    def dialect(self) -> Dialect:
        """Which database it is, for the few statements that have a twin."""

    @property
    def now(self) -> Micros:
        """The database's clock; the same value during the whole transaction."""

    def one(self, sql: str, params: Params = NO_PARAMS) -> Row | None:
        """The first row, or nothing."""

    def all(self, sql: str, params: Params = NO_PARAMS) -> list[Row]:
        """Every row. The SQL carries its own LIMIT."""


class Transaction(ReadTransaction, Protocol):
    """A unit of work's hold on the database; it ends with the unit.

    `one` and `all` also run `… RETURNING` statements.
    """

    def execute(self, sql: str, params: Params = NO_PARAMS) -> int:
        """Run one statement; answers the number of rows it changed."""

    def executemany(self, sql: str, rows: Sequence[Params]) -> int:
        """Run one statement for each row of parameters; answers the number of rows changed."""

    def insert_many(self, table: str, rows: Sequence[Params]) -> None:
        """Insert rows that all have the same columns. `table` is a name from the code, never from outside."""


Unit: TypeAlias = Callable[[Transaction], T]
"""A unit of work. It may be run a second time after being rolled back, so it touches nothing but its transaction."""

Query: TypeAlias = Callable[[ReadTransaction], T]
