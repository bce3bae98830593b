"""Whatever mix of good and bad units comes at once: exactly what was acknowledged is there."""

import asyncio
from enum import Enum, auto
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from portway.rpc.errors import Conflict
from portway.server.storage_engine.database import DatabaseOptions, open_database
from portway.server.storage_engine.sequences import allocate
from portway.server.storage_engine.transaction import StatementError, Transaction


class Kind(Enum):
    GOOD = auto()
    REFUSES_FIRST = auto()
    FAILS_LATE = auto()
    BREAKS_A_CONSTRAINT = auto()
    CATCHES_AND_GOES_ON = auto()


def unit(tx: Transaction, number: int, kind: Kind) -> int:
    """Writes two rows and a number of a sequence, all or nothing."""
    if kind is Kind.REFUSES_FIRST:
        raise Conflict("refused")
    sequence = allocate(tx, "w", "s")
    tx.execute("INSERT INTO first VALUES (:n, :s)", {"n": number, "s": sequence})
    if kind is Kind.FAILS_LATE:
        raise Conflict("too late")
    if kind is Kind.BREAKS_A_CONSTRAINT:
        tx.execute("INSERT INTO first VALUES (:n, :s)", {"n": number, "s": sequence})
    if kind is Kind.CATCHES_AND_GOES_ON:
        try:
            tx.execute("INSERT INTO first VALUES (:n, :s)", {"n": number, "s": sequence})
        except StatementError:
            pass
    tx.execute("INSERT INTO second VALUES (:n, :s)", {"n": number, "s": sequence})
    return sequence


async def check_all(folder: Path, kinds: list[Kind], group_limit: int) -> None:
    options = DatabaseOptions(url=f"sqlite:///{folder}/portway.db", group_limit=group_limit, reader_threads=1)
    async with open_database(options) as database:
        for table in ("first", "second"):
            sql = f"CREATE TABLE {table} (n INTEGER PRIMARY KEY, s INTEGER UNIQUE)"
            await database.writer.run(lambda tx, sql=sql: tx.execute(sql))  # type: ignore[misc]
        answers = await asyncio.gather(
            *(database.writer.run(partial(unit, number=n, kind=kind)) for n, kind in enumerate(kinds)),
            return_exceptions=True,
        )
        acknowledged = {n: answer for n, answer in enumerate(answers) if isinstance(answer, int)}
        good = {n for n, kind in enumerate(kinds) if kind in (Kind.GOOD, Kind.CATCHES_AND_GOES_ON)}
        assert set(acknowledged) == good
        for table in ("first", "second"):
            rows = await database.reader.run(lambda tx, t=table: tx.all(f"SELECT n, s FROM {t}"))  # type: ignore[misc]
            assert dict(rows) == acknowledged
        assert sorted(acknowledged.values()) == list(range(1, len(good) + 1))


@settings(max_examples=40, deadline=None)
@given(kinds=st.lists(st.sampled_from(Kind), max_size=150), group_limit=st.sampled_from([1, 2, 7, 64]))
def test_what_was_acknowledged_is_there_and_nothing_else(kinds: list[Kind], group_limit: int) -> None:
    with TemporaryDirectory() as folder:
        asyncio.run(check_all(Path(folder), kinds, group_limit))
