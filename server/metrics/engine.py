"""What the storage engine has counted."""

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path

from portway.rpc.metrics.families import Family, counter, gauge, one_histogram
from portway.server.retention.reaper import Progress
from portway.server.storage_engine.database import Database


class EngineNumbers:
    """Of the database, its disk and what is removed from it."""

    def __init__(self, database: Database, data: Path, retention: Progress) -> None:
        self._database = database
        self._data = data
        self._retention = retention

    async def families(self) -> Iterable[Family]:
        """See `Source`."""
        writer, reader = self._database.writer, self._database.reader
        written, removed = writer.counters, self._retention
        disk = await asyncio.to_thread(shutil.disk_usage, self._data)
        return [
            counter("portway_sql_statements", "SQL statements.", written.statements + reader.statements),
            counter("portway_sql_commits", "Transactions committed.", written.commits),
            counter(
                "portway_sql_units", "Units of work written; units by commits is the size of a group.", written.units
            ),
            counter("portway_sql_failed_units", "Units of work that raised.", written.failed_units),
            counter("portway_sql_retried_groups", "Groups that were run again.", written.retried_groups),
            one_histogram("portway_sql_commit_seconds", "From a group's begin to its place on disk.", written.seconds),
            gauge("portway_sql_writes_waiting", "Units of work that wait for the writer.", writer.waiting_count),
            gauge("portway_sql_reads_waiting", "Queries that wait for a reader.", reader.waiting_count),
            gauge("portway_disk_free_bytes", "Free where the host's data is.", disk.free),
            counter("portway_retention_passes", "Passes over what is too old.", removed.passes),
            counter("portway_retention_rows_removed", "Rows removed because of their age.", removed.removed),
            gauge("portway_retention_failing", "1 where the last pass failed.", float(bool(removed.problem))),
        ]
