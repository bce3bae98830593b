"""The schema that all revisions together make, as one SQL file for each kind of database: new ones are made from it,
without Alembic.

    python -m portway.server.storage_engine.migrations.snapshot

writes the files anew after a revision was added. They name the revisions that they were made from; an outdated one is
not used.
"""

import hashlib
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

FOLDER = Path(__file__).parent
FILE = FOLDER / "data" / "schema.sql"
POSTGRES_FILE = FOLDER / "data" / "schema.postgresql.sql"

_HEADER = "-- made from revisions "
_STATEMENTS = """
SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'transcript_search\\_%' ESCAPE '\\'
ORDER BY CASE type WHEN 'table' THEN 0 ELSE 1 END, name
"""


def current_snapshot(file: Path = FILE) -> str:
    """The statements that make a database of today; '' when the file is not of today's revisions."""
    try:
        header, _, statements = file.read_text().partition("\n")
    except FileNotFoundError:
        return ""
    return statements if header == _HEADER + _revisions_digest() else ""


def snapshot_of(path: Path) -> str:
    """The file for a database that was just migrated."""
    with closing(sqlite3.connect(path)) as connection:
        statements = [row[0] for row in connection.execute(_STATEMENTS)]
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    statements.append(f"INSERT INTO alembic_version (version_num) VALUES ('{revision}')")
    return f"{_HEADER}{_revisions_digest()}\n" + "".join(f"{_tidy(statement)};\n" for statement in statements)


def postgres_snapshot() -> str:
    """The file for new databases on PostgreSQL, from what the revisions say; no server is asked."""
    # Not needed, and not loaded, where a database is made from the file.
    from portway.server.storage_engine.migrations.run import scripts, statements_for_postgres  # noqa: PLC0415

    lines = statements_for_postgres(scripts().get_heads()[0]).splitlines()
    kept = [line.rstrip() for line in lines if line.strip() and not line.startswith(("BEGIN;", "COMMIT;", "--"))]
    return f"{_HEADER}{_revisions_digest()}\n" + "".join(f"{line}\n" for line in kept)


def _tidy(statement: str) -> str:
    return "\n".join(line.replace("\t", "  ").rstrip() for line in statement.strip().splitlines())


def _revisions_digest() -> str:
    digest = hashlib.sha256()
    for file in sorted((FOLDER / "versions").glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def main() -> None:
    """Migrate a new database and write its schema down, and PostgreSQL's beside it."""
    # Not needed, and not loaded, where a database is made from the file.
    from portway.server.storage_engine.migrations.run import migrate, scripts  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new.db"
        migrate(path, scripts().get_heads()[0])
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(snapshot_of(path))
    POSTGRES_FILE.write_text(postgres_snapshot())
    print(f"wrote {FILE} and {POSTGRES_FILE.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
