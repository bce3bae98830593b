"""Which database it is. Everything that differs between the two is chosen by this value, in one place per noun."""

from enum import StrEnum


class Dialect(StrEnum):
    """The key of a twin: a store that needs two versions of a statement keeps both in a mapping by dialect."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


TABLE_NAMES: dict[Dialect, str] = {
    Dialect.SQLITE: (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
        "AND name NOT LIKE 'transcript_search%' ORDER BY name"
    ),
    Dialect.POSTGRESQL: (
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'transcript_search' "
        "ORDER BY tablename"
    ),
}
"""The tables that hold data; the full-text index is made anew from the transcript."""
