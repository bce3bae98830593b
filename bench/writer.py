"""How fast the host's writer is, beside the same statements in raw sqlite3 on the same disk.

    .venv/bin/python -m bench.writer [--quick | --full] [--folder DIR]

A unit has three statements, like the accepting of an event: a counter advanced, two rows inserted. Every number is
taken with `synchronous=FULL`: what is counted is on disk.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from bench.kit.rows import Row, add_options, options_of, tell
from portway.server.storage_engine.database import Database, DatabaseOptions, open_database
from portway.server.storage_engine.sequences import allocate
from portway.server.storage_engine.sqlite import connect_writer
from portway.server.storage_engine.transaction import Transaction

_TABLES = """
CREATE TABLE bench_first (workspace_id TEXT, id TEXT, sequence INTEGER, body BLOB, PRIMARY KEY (workspace_id, id));
CREATE TABLE bench_second (workspace_id TEXT, id TEXT, sequence INTEGER, state TEXT, PRIMARY KEY (workspace_id, id));
"""
_FIRST = "INSERT INTO bench_first (workspace_id, id, sequence, body) VALUES (:workspace_id, :id, :sequence, :body)"
_SECOND = "INSERT INTO bench_second VALUES (:workspace_id, :id, :sequence, :state)"
_READ = "SELECT sequence, body FROM bench_first WHERE workspace_id = :workspace_id AND id = :id"
_BODY = b"x" * 300


def _unit(number: int, tx: Transaction) -> None:
    sequence = allocate(tx, "default", "bench")
    row_id = f"evt_{number:032x}"
    tx.execute(_FIRST, {"workspace_id": "default", "id": row_id, "sequence": sequence, "body": _BODY})
    tx.execute(_SECOND, {"workspace_id": "default", "id": row_id, "sequence": sequence, "state": "queued"})


def _execute(sql: str, tx: Transaction) -> None:
    tx.execute(sql)


def floor(folder: Path, seconds: float, group: int) -> float:
    """Units per second of the bare driver: the same statements in one loop, `group` units to a commit."""
    connection = connect_writer(folder / f"floor-{group}.db")
    connection.executescript(_TABLES)
    connection.execute(
        "CREATE TABLE sequences (workspace_id TEXT, stream TEXT, value INTEGER, PRIMARY KEY (workspace_id, stream))"
    )
    advance = (
        "INSERT INTO sequences VALUES ('default', 'bench', 1) "
        "ON CONFLICT (workspace_id, stream) DO UPDATE SET value = value + 1 RETURNING value"
    )
    done = 0
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(group):
            sequence = connection.execute(advance).fetchall()[0][0]
            row_id = f"evt_{done:032x}"
            connection.execute(_FIRST, {"workspace_id": "default", "id": row_id, "sequence": sequence, "body": _BODY})
            connection.execute(_SECOND, {"workspace_id": "default", "id": row_id, "sequence": sequence, "state": "q"})
            done += 1
        connection.execute("COMMIT")
    elapsed = time.perf_counter() - begun
    connection.close()
    return done / elapsed


async def through_writer(database: Database, seconds: float, callers: int) -> tuple[float, float, float, float]:
    """Units per second, p50 and p99 in milliseconds, units per commit, with so many callers that each wait."""
    taken: list[float] = []
    numbers = iter(range(1 << 62))
    stop_at = time.perf_counter() + seconds
    prefix = callers << 40
    commits = database.writer.counters.commits

    async def caller() -> None:
        while (begun := time.perf_counter()) < stop_at:
            number = prefix + next(numbers)
            await database.writer.run(partial(_unit, number))
            taken.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    elapsed = time.perf_counter() - begun
    cuts = statistics.quantiles(taken, n=100)
    commits = database.writer.counters.commits - commits
    return len(taken) / elapsed, cuts[49] * 1000, cuts[98] * 1000, len(taken) / commits


async def reads(database: Database, seconds: float, callers: int) -> tuple[float, float]:
    """Point reads per second and p99 in milliseconds."""
    taken: list[float] = []
    stop_at = time.perf_counter() + seconds
    params = {"workspace_id": "default", "id": f"evt_{64 << 40:032x}"}

    async def caller() -> None:
        while (begun := time.perf_counter()) < stop_at:
            await database.reader.run(lambda tx: tx.one(_READ, params))
            taken.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return len(taken) / (time.perf_counter() - begun), statistics.quantiles(taken, n=100)[98] * 1000


async def measure(folder: Path, seconds: float) -> list[Row]:
    """The writer beside the raw driver, and the reader."""
    rows = []
    floors = {group: floor(folder, seconds, group) for group in (1, 64)}
    async with open_database(DatabaseOptions(url=f"sqlite:///{folder}/portway.db")) as database:
        for statement in _TABLES.split(";\n"):
            if statement.strip():
                await database.writer.run(partial(_execute, statement))
        for callers in (1, 16, 64, 256):
            rate, median, tail, grouped = await through_writer(database, seconds, callers)
            raw = floors[1 if callers == 1 else 64]
            note = f"p50 {median:.2f} ms, p99 {tail:.2f} ms, {grouped:.1f} units a commit"
            rows.append(Row(f"writer on disk, {callers} callers", rate, "units/s", raw, note=note))
        for callers in (1, 16):
            rate, tail = await reads(database, seconds, callers)
            rows.append(Row(f"reader, {callers} callers, point reads", rate, "/s", note=f"p99 {tail:.2f} ms"))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; a temporary folder if not given")
    add_options(parser)
    given = parser.parse_args()
    options = options_of(given)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        rows = asyncio.run(measure(Path(folder), float(options.pick(1, 1, 3))))
    tell(rows, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
