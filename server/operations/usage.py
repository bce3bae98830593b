"""Measuring what the host keeps, while it works."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from portway.server.archive.sizes import TableSize, file_size, folder_size, measure_tables
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.dialect import Dialect


@dataclass(frozen=True, slots=True)
class Kept:
    """Sizes in bytes."""

    tables: tuple[TableSize, ...]
    database: int
    unused: int
    log: int
    blobs: int
    blob_files: int
    backups: int
    free_disk: int


async def measure(database: Database, data: Path) -> Kept:
    """On a connection of its own: nobody who writes or reads waits for it."""
    tables, unused = await database.read_snapshot(measure_tables)
    return await asyncio.to_thread(_beside, database, data, tables, unused)


def _beside(database: Database, data: Path, tables: tuple[TableSize, ...], unused: int) -> Kept:
    blobs, files = folder_size(data / "blobs")
    size, log, backups = sum(table.size for table in tables), 0, 0
    if database.dialect is Dialect.SQLITE:
        file = database.path
        size, log = file_size(file), file_size(file.with_name(file.name + "-wal"))
        backups = sum(file_size(copy) for copy in file.parent.glob(f"{file.name}.before-*"))
    return Kept(tables, size, unused, log, blobs, files, backups, shutil.disk_usage(data).free)
