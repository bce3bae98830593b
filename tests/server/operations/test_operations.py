"""OperationsService over the wire: sizes, retention now, keys; and what those hear who come back too late."""

import asyncio
import json
from pathlib import Path

import pytest

from portway.rpc.errors import InvalidInput, NotPermitted
from portway.server.secrets.store import put_secret
from portway.server.storage_engine.keyring import load_keyring, save_keyring
from portway.server.storage_engine.transaction import Transaction
from portway.v1 import audit_pb2, operations_pb2, run_pb2, stream_pb2
from tests.asking import ask, stream
from tests.fakes.runtime_server import FakeRuntime, serve_fake_runtime
from tests.server.callers import calling_as
from tests.server.hosting import WORKSPACE, Hosted, hosted


async def applied(served: Hosted, *kinds: str, dry: bool = False) -> dict[str, int]:
    answer = await ask(served.channel, operations_pb2.ApplyRetentionRequest(kinds=kinds, dry_run=dry))
    return {one.kind: one.row_count for one in answer.removed}


async def aged(served: Hosted, sql: str) -> None:
    await served.parts.stores.database.writer.run(lambda tx: tx.execute(sql))


async def test_a_watcher_of_an_old_run_hears_of_the_gap_and_of_the_end(served: Hosted) -> None:
    run = await served.asked("hi")
    await aged(served, "UPDATE runs SET create_time = 1, end_time = 2")
    assert await applied(served, "ledger", dry=True) == {"ledger": 1}
    assert (await applied(served, "ledger"))["ledger"] >= 1
    request = run_pb2.WatchRunRequest(run_id=run.run_id, after_sequence=0)
    answers = [answer async for answer in stream(served.channel, request)]
    gap = answers[0].gap
    assert gap.reason == stream_pb2.GAP_REASON_EXPIRED
    assert gap.missing_count == run.last_sequence - 1
    assert [event.WhichOneof("kind") for answer in answers[1:] for event in answer.events] == ["run_completed"]
    # Who has everything hears of no gap.
    request = run_pb2.WatchRunRequest(run_id=run.run_id, after_sequence=run.last_sequence)
    assert [answer async for answer in stream(served.channel, request)] == []


async def test_a_follower_of_the_audit_hears_what_will_not_come(served: Hosted) -> None:
    for number in range(5):
        await served.asked(f"message {number}")
    await ask(served.channel, operations_pb2.RotateEncryptionKeyRequest())
    entries = (await ask(served.channel, audit_pb2.ListAuditEntriesRequest())).audit_entries
    newest = entries[0]
    await aged(served, f"DELETE FROM audit WHERE sequence <= {newest.sequence - 1}")

    async def first(after: str) -> audit_pb2.WatchAuditResponse:
        async for answer in stream(served.channel, audit_pb2.WatchAuditRequest(after_cursor=after)):
            response: audit_pb2.WatchAuditResponse = answer
            return response
        raise AssertionError("the watch ended")

    if len(entries) > 1:
        gap = (await first(entries[-1].cursor)).gap
        assert gap.reason == stream_pb2.GAP_REASON_EXPIRED
        assert gap.missing_count == newest.sequence - 1 - entries[-1].sequence
    await aged(served, "DELETE FROM audit")
    await aged(served, "UPDATE sequences SET value = 0 WHERE stream = 'audit'")
    lost = (await first(newest.cursor)).gap
    assert lost.reason == stream_pb2.GAP_REASON_EPOCH


async def test_the_usage_tells_tables_files_and_what_was_removed(served: Hosted) -> None:
    await served.asked("hi")
    await aged(served, "UPDATE runs SET create_time = 1, end_time = 2")
    await applied(served)
    usage = await ask(served.channel, operations_pb2.GetStorageUsageRequest())
    tables = {table.table: table for table in usage.tables}
    assert tables["events"].row_count == 1
    assert tables["events"].size_bytes > 0
    assert usage.database_bytes > 100_000
    assert usage.free_disk_bytes > 0
    kinds = {one.kind: one for one in usage.retention}
    assert not kinds["conversations"].HasField("keep")
    assert kinds["ledger"].keep.seconds == 30 * 86400
    assert kinds["runs"].removed_count > 0
    assert usage.pass_count == 1
    assert usage.longest_unit.ToMicroseconds() > 0


async def test_who_may_and_what_is_known(served: Hosted) -> None:
    with pytest.raises(InvalidInput):
        await applied(served, "everything")
    async with calling_as(served, "operator") as channel:
        await ask(channel, operations_pb2.GetStorageUsageRequest())
        for request in (
            operations_pb2.ApplyRetentionRequest(),
            operations_pb2.RotateEncryptionKeyRequest(),
            operations_pb2.DeletePluginDataRequest(plugin_id="test/one"),
        ):
            with pytest.raises(NotPermitted):
                await ask(channel, request)


async def encryption(served: Hosted) -> operations_pb2.EncryptionState:
    state: operations_pb2.EncryptionState = (
        await ask(served.channel, operations_pb2.GetEncryptionRequest())
    ).encryption
    return state


async def rotated(served: Hosted) -> operations_pb2.EncryptionState:
    async with asyncio.timeout(60):
        while (state := await encryption(served)).old_key_ids:  # noqa: ASYNC110 - the host does it in the background
            await asyncio.sleep(0.02)
    return state


async def test_a_key_is_rotated_and_the_old_one_dropped_after_the_last_secret(served: Hosted, tmp_path: Path) -> None:
    stores = served.parts.stores

    def fill(tx: Transaction) -> None:
        for number in range(500):
            put_secret(tx, stores.keyring, WORKSPACE, f"secret-{number}", f"value {number}")

    await stores.database.writer.run(fill)
    run = await served.asked("hi")
    before = (await encryption(served)).key_id
    request = operations_pb2.RotateEncryptionKeyRequest(request_id="once")
    state = (await ask(served.channel, request)).encryption
    assert state.key_id != before
    again = (await ask(served.channel, request)).encryption
    assert again.key_id == state.key_id
    assert (await rotated(served)).key_id == state.key_id
    for number in (0, 499):
        assert (await stores.secrets.secret(WORKSPACE, f"secret-{number}")).value == f"value {number}"
    kept = json.loads((tmp_path / "host/keys.json").read_text())
    assert [key["id"] for key in kept["keys"]] == [state.key_id]
    # Cursors that were given out before are good for ever.
    assert served.parts.stores.cursors.read(run.cursor, f"run/{WORKSPACE}/{run.run_id}") is not None


async def test_a_rotation_goes_on_after_a_start(tmp_path: Path) -> None:
    async with serve_fake_runtime(FakeRuntime()) as runtime:
        async with hosted(tmp_path, runtime) as served:
            stores = served.parts.stores
            await stores.database.writer.run(lambda tx: put_secret(tx, stores.keyring, WORKSPACE, "one", "value"))
            cursor = (await served.asked("hi")).cursor
        # As a kill leaves it between the new key file and the first secret under the new key.
        keyring = load_keyring(tmp_path / "host/keys.json").rotated()
        (tmp_path / "host/keys.json").unlink()
        from_before = keyring.keys[1].key_id
        save_keyring(tmp_path / "host/keys.json", keyring)
        async with hosted(tmp_path, runtime) as served:
            state = await rotated(served)
            assert state.key_id == keyring.newest != from_before
            assert (await served.parts.stores.secrets.secret(WORKSPACE, "one")).value == "value"
        async with hosted(tmp_path, runtime) as served:
            assert (await served.parts.stores.secrets.secret(WORKSPACE, "one")).value == "value"
            run_id = (await served.asked("again")).run_id
            assert cursor != (await served.run(run_id)).cursor
