"""How much a host keeps, and in what."""

import os
from dataclasses import dataclass
from pathlib import Path

from portway.server.archive.place import Place, must_exist
from portway.server.archive.snapshot import snapshot_of
from portway.server.storage_engine.dialect import TABLE_NAMES, Dialect
from portway.server.storage_engine.transaction import ReadTransaction


@dataclass(frozen=True, slots=True)
class TableSize:
    """`size` in bytes with its indexes; 0 where the database does not tell."""

    table: str
    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Sizes in bytes. `free`: of the database file, what it can use again without growing."""

    tables: tuple[TableSize, ...]
    database: int
    free: int
    log: int
    blobs: int
    blob_files: int
    backups: int


_SQLITE_TABLES = """
SELECT schema.tbl_name, SUM(pages.size) FROM (SELECT name, pgsize AS size FROM dbstat WHERE aggregate = 1) AS pages
JOIN sqlite_master AS schema ON schema.name = pages.name GROUP BY schema.tbl_name
"""
_POSTGRES_TABLES = """
SELECT relname, pg_total_relation_size(oid) FROM pg_class
WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
"""
_SIZES = {Dialect.SQLITE: _SQLITE_TABLES, Dialect.POSTGRESQL: _POSTGRES_TABLES}
_SEARCH = "transcript_search"


def measure(place: Place) -> Usage:
    """Also while the host runs. Raises NotFound, Unavailable."""
    must_exist(place)
    with snapshot_of(place, any_revision=True) as tx:
        tables, free = measure_tables(tx)
    file = place.sqlite
    blobs, files = folder_size(place.blobs)
    return Usage(
        tables=tables,
        database=file_size(file) if file else sum(table.size for table in tables),
        free=free,
        log=file_size(file.with_name(file.name + "-wal")) if file else 0,
        blobs=blobs,
        blob_files=files,
        backups=sum(file_size(copy) for copy in file.parent.glob(f"{file.name}.before-*")) if file else 0,
    )


def measure_tables(tx: ReadTransaction) -> tuple[tuple[TableSize, ...], int]:
    """Every table, the largest first, and the unused bytes of the database file."""
    sizes = {str(name): int(size) for name, size in tx.all(_SIZES[tx.dialect])}
    search = sum(size for name, size in sizes.items() if name.startswith(_SEARCH))
    found = [TableSize(_SEARCH, 0, search)]
    for (name,) in tx.all(TABLE_NAMES[tx.dialect]):
        row = tx.one(f'SELECT COUNT(*) FROM "{name}"')
        found.append(TableSize(name, int(row[0]) if row else 0, sizes.get(name, 0)))
    unused = 0
    if tx.dialect is Dialect.SQLITE:
        (page,), (count,) = tx.one("PRAGMA page_size") or (0,), tx.one("PRAGMA freelist_count") or (0,)
        unused = int(page) * int(count)
    return tuple(sorted(found, key=lambda table: -table.size)), unused


def folder_size(folder: Path) -> tuple[int, int]:
    """(bytes, files) below a folder."""
    size = files = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            size += file_size(Path(parent, name))
            files += 1
    return size, files


def file_size(path: Path) -> int:
    """0 for one that is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
