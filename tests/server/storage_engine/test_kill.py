"""The host is killed while it writes: what it acknowledged is there, whole, and the next start is not held up."""

import asyncio
import random
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from portway.server.storage_engine.database import DatabaseOptions, open_database

_PROGRAM = Path(__file__).parent / "programs" / "write_until_killed.py"
_ROUNDS = 8


async def _write_until_killed(folder: Path, first: int, acknowledgements: int) -> list[int]:
    """Start the writing process, kill it after so many acknowledgements, answer those that it had printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_PROGRAM), str(folder), str(first), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    printed: list[int] = []
    try:
        assert await process.stdout.readline() == b"ready\n"
        while len(printed) < acknowledgements:
            printed.append(int(await process.stdout.readline()))
    finally:
        process.kill()
    printed.extend(int(line) for line in (await process.stdout.read()).split(b"\n")[:-1])
    assert await process.wait() == -9
    return printed


async def test_everything_acknowledged_before_a_kill_is_there_and_nothing_is_torn(tmp_path: Path) -> None:
    random.seed(20)
    acknowledged: set[int] = set()
    for round_number in range(_ROUNDS):
        wanted = random.randrange(1, 1500)
        acknowledged.update(await _write_until_killed(tmp_path, round_number * 10_000_000, wanted))
        with closing(sqlite3.connect(tmp_path / "portway.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = connection.execute("SELECT number, COUNT(*), COUNT(DISTINCT sequence) FROM halves GROUP BY number")
            whole = {number for number, halves, sequences in rows if (halves, sequences) == (2, 1)}
            total = connection.execute("SELECT COUNT(*), MIN(sequence), MAX(sequence) FROM halves").fetchone()
        assert acknowledged <= whole, "lost"
        assert total == (2 * len(whole), 1, len(whole)), "torn, or a gap in the sequence"
    assert len(acknowledged) > _ROUNDS


async def test_a_start_after_a_kill_has_a_higher_epoch(tmp_path: Path) -> None:
    await _write_until_killed(tmp_path, 0, 1)
    async with open_database(DatabaseOptions(url=f"sqlite:///{tmp_path}/portway.db")) as database:
        assert database.epoch == 2
