"""The database that is measured: SQLite in the folder, or the PostgreSQL server that BENCH_DATABASE names."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

VARIABLE = "BENCH_DATABASE"


def kind() -> str:
    """For the names of rows."""
    return "PostgreSQL" if os.environ.get(VARIABLE) else "SQLite"


@contextmanager
def settings() -> Iterator[dict[str, str]]:
    """Variables for the host. On PostgreSQL everything lies in a schema of its own, which is dropped at the end."""
    url = os.environ.get(VARIABLE)
    if not url:
        yield {}
        return
    # Only here: the driver is nothing that a bench on SQLite loads.
    import psycopg  # noqa: PLC0415

    schema = f"bench_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
        try:
            search_path = quote(f"-csearch_path={schema}", safe="")
            yield {"PORTWAY__HOST__DATABASE": f"{url}{'&' if '?' in url else '?'}options={search_path}"}
        finally:
            connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())
