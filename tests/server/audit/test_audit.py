"""The audit: written without holding anybody up, read in pages, followed as it grows."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.rpc.errors import InvalidInput, LimitExceeded
from portway.server.audit.recorder import QUEUE_LIMIT, AuditRecorder
from portway.server.audit.store import NEWEST, StoredAudit
from portway.server.audit.types import AuditFilter, NewAuditRecord
from portway.server.storage_engine.database import Database, DatabaseOptions, open_database
from portway.v1 import audit_pb2
from tests.asking import ask, stream
from tests.server.callers import make_token
from tests.server.hosting import Hosted
from tests.waiting import until, until_told


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(DatabaseOptions(url=f"sqlite:///{tmp_path}/portway.db")) as opened:
        yield opened


def a_record(number: int, workspace_id: str = "default", **more: str) -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=workspace_id,
        action=more.get("action", "tools.call"),
        resource=str(number),
        allowed=number % 2 == 0,
    )


async def resources(database: Database, workspace_id: str = "default", **which: str) -> list[str]:
    found = await StoredAudit(database.reader).page(workspace_id, AuditFilter(**which), NEWEST, 1_000)  # type: ignore[arg-type]
    return [one.resource for one in found]


async def test_records_are_written_in_order_in_the_background(database: Database) -> None:
    recorder = AuditRecorder(database.writer)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(recorder.run())
        for number in range(600):
            recorder.record(a_record(number, "default" if number % 3 else "elsewhere"))
        audit = StoredAudit(database.reader)

        async def all_there() -> bool:
            return await audit.latest_sequence("default") + await audit.latest_sequence("elsewhere") == 600

        await until_told(all_there)
        running.cancel()
    assert await resources(database) == [str(number) for number in reversed(range(600)) if number % 3]


async def test_what_is_queued_at_the_end_is_written_and_once(database: Database) -> None:
    recorder = AuditRecorder(database.writer)
    running = asyncio.ensure_future(recorder.run())
    await asyncio.sleep(0)
    for number in range(10):
        recorder.record(a_record(number))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await resources(database) == [str(number) for number in reversed(range(10))]


class FullDisk:
    """A writer whose disk is full a few times."""

    def __init__(self, database: Database, times: int) -> None:
        self._database = database
        self.times = times

    def submit(self, unit: object) -> "asyncio.Future[None]":
        if self.times:
            self.times -= 1
            raise LimitExceeded("The disk is full.")
        return self._database.writer.submit(unit)  # type: ignore[arg-type]


async def test_what_the_disk_refuses_is_kept_and_written_later(database: Database) -> None:
    writer = FullDisk(database, times=1)
    recorder = AuditRecorder(writer)  # type: ignore[arg-type]  # it submits like one
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(recorder.run())
        recorder.record(a_record(1))
        await until(lambda: writer.times == 0)

        async def there() -> bool:
            return await resources(database) == ["1"]

        await until_told(there)
        running.cancel()
    assert await resources(database) == ["1"]


async def test_past_the_limit_a_record_is_counted_and_said(database: Database) -> None:
    recorder = AuditRecorder(database.writer)
    for number in range(QUEUE_LIMIT + 2):
        recorder.record(a_record(number))
    assert recorder.dropped == 2


async def test_decisions_are_listed_newest_first_filtered_and_in_pages(served: Hosted) -> None:
    for number in range(5):
        served.parts.audit.record(a_record(number))
    made = await make_token(served, "viewer")
    audit = StoredAudit(served.parts.stores.database.reader)

    async def all_there() -> bool:
        return await audit.latest_sequence("default") == 6

    await until_told(all_there)
    request = audit_pb2.ListAuditEntriesRequest(action="tools.*", page_size=2)
    found: list[str] = []
    while True:
        page = await ask(served.channel, request)
        found += [entry.resource for entry in page.audit_entries]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == ["4", "3", "2", "1", "0"]
    refused = await ask(served.channel, audit_pb2.ListAuditEntriesRequest(refused_only=True))
    assert [entry.resource for entry in refused.audit_entries] == ["3", "1"]
    (token,) = (await ask(served.channel, audit_pb2.ListAuditEntriesRequest(action="token.create"))).audit_entries
    assert (token.resource, token.allowed, token.actor[:4]) == (made.token.token_id, True, "tok_")
    assert made.secret not in str(token)
    with pytest.raises(InvalidInput):
        await ask(served.channel, audit_pb2.ListAuditEntriesRequest(page_token=request.page_token))


async def test_the_audit_is_followed_from_a_cursor_without_gap_or_repeat(served: Hosted) -> None:
    first = await make_token(served, "viewer")
    (entry,) = (await ask(served.channel, audit_pb2.ListAuditEntriesRequest())).audit_entries
    second = await make_token(served, "viewer")
    watching = stream(served.channel, audit_pb2.WatchAuditRequest(after_cursor=entry.cursor))
    assert [one.resource for one in (await anext(watching)).entries] == [second.token.token_id]
    third = await make_token(served, "viewer")
    assert [one.resource for one in (await anext(watching)).entries] == [third.token.token_id]
    assert first.token.token_id == entry.resource
