"""Feeds over a workspace on PostgreSQL: a commit that comes late is never skipped by a cursor that has moved on."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from portway.server.audit.store import StoredAudit, append_audit
from portway.server.audit.types import AuditFilter, NewAuditRecord
from portway.server.events.store import StoredEventLog, append_event
from portway.server.storage_engine.clock import ForwardClock
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.postgres.link import Link
from portway.server.storage_engine.postgres.target import target_of
from portway.server.storage_engine.postgres.transaction import PostgresTransaction
from portway.server.storage_engine.schema import metadata
from tests.contracts.store.given import WORKSPACE, an_event
from tests.postgres import PostgresServer

WAITING = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'portway writer%' AND wait_event_type = 'Lock'"


class OtherHost(PostgresTransaction):
    """What another host of the same workspace writes with."""

    reads_only = False


@pytest.fixture
def other(postgres: PostgresServer, postgres_database: str) -> Iterator[OtherHost]:
    transaction = OtherHost(Link(target_of(postgres.url(postgres_database)), "other", patience=1.0), ForwardClock())
    yield transaction
    transaction.close()


def record(action: str) -> NewAuditRecord:
    return NewAuditRecord(workspace_id=WORKSPACE, action=action, resource="", allowed=True)


async def waits(postgres: PostgresServer, name: str) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(postgres.run, WAITING, name):  # noqa: ASYNC110 - another process tells
            await asyncio.sleep(0.01)


async def test_an_audit_record_that_is_committed_late_is_not_skipped(
    database: Database, other: OtherHost, postgres: PostgresServer, postgres_database: str
) -> None:
    audit = StoredAudit(database.reader)
    seen: list[str] = []
    position = 0

    async def follow() -> None:
        nonlocal position
        until = await audit.latest_sequence(WORKSPACE)
        for found in await audit.follow(WORKSPACE, AuditFilter(), position, until):
            seen.append(found.action)
            position = found.sequence

    await database.writer.run(lambda tx: append_audit(tx, [record("first")]))
    await follow()
    other.begin_writing()
    append_audit(other, [record("held")])
    later = asyncio.ensure_future(database.writer.run(lambda tx: append_audit(tx, [record("later")])))
    # The later record cannot have a number, let alone be read, while the earlier is not there.
    await waits(postgres, postgres_database)
    await follow()
    assert (seen, later.done()) == (["first"], False)
    other.commit()
    await later
    await follow()
    assert seen == ["first", "held", "later"]


async def test_an_event_that_is_committed_late_is_not_skipped(
    database: Database, other: OtherHost, postgres: PostgresServer, postgres_database: str
) -> None:
    log = StoredEventLog(database.reader)
    held, later = (replace(an_event(), summary=summary) for summary in ("held", "later"))
    other.begin_writing()
    append_event(other, held)
    writing = asyncio.ensure_future(database.writer.run(lambda tx: append_event(tx, later)))
    await waits(postgres, postgres_database)
    assert await log.follow(WORKSPACE, 0, 10) == []
    other.commit()
    await writing
    assert [(event.sequence, event.summary) for event in await log.follow(WORKSPACE, 0, 10)] == [
        (1, "held"),
        (2, "later"),
    ]


async def test_a_transaction_that_is_undone_leaves_no_gap(
    database: Database, other: OtherHost, postgres: PostgresServer, postgres_database: str
) -> None:
    log = StoredEventLog(database.reader)
    other.begin_writing()
    append_event(other, an_event())
    writing = asyncio.ensure_future(database.writer.run(lambda tx: append_event(tx, an_event())))
    await waits(postgres, postgres_database)
    other.rollback()
    await writing
    assert [event.sequence for event in await log.follow(WORKSPACE, 0, 10)] == [1]


async def test_a_feed_of_numbers_given_by_the_server_reads_behind_the_horizon(
    database: Database, other: OtherHost, postgres: PostgresServer, postgres_database: str
) -> None:
    """What the counters save the feeds from, and what a feed without one would need."""
    await database.writer.run(lambda tx: tx.execute("CREATE TABLE feed (id BIGSERIAL PRIMARY KEY, made XID8 NOT NULL)"))
    insert = "INSERT INTO feed (made) VALUES (pg_current_xact_id()) RETURNING id"
    other.begin_writing()
    held = other.one(insert)
    late = await database.writer.run(lambda tx: tx.one(insert))
    everything = "SELECT id FROM feed ORDER BY id"
    behind = "SELECT id FROM feed WHERE made < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY id"
    assert await database.reader.run(lambda tx: tx.all(everything)) == [late]
    assert await database.reader.run(lambda tx: tx.all(behind)) == []
    other.commit()
    assert await database.reader.run(lambda tx: tx.all(behind)) == [held, late]


def test_no_table_of_a_workspace_is_ordered_by_a_number_that_the_server_gives() -> None:
    """Such numbers do not follow the order of commits. The transcript's is a handle, and sorts results of a search."""
    given = {
        name
        for name, table in metadata.tables.items()
        if any(column.autoincrement is True for column in table.primary_key.columns)
    }
    assert given == {"transcript"}
