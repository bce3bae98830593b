"""Blobs stay while somebody copies them, and everything that refers to one is known."""

from pathlib import Path

from sqlalchemy import Text

from portway.server.storage_engine.blob_references import BLOB_REFERENCES
from portway.server.storage_engine.blobs import Blobs
from portway.server.storage_engine.pins import pinned
from portway.server.storage_engine.schema import metadata
from tests.server.archive.tools import asked, opened


def test_every_column_that_holds_a_digest_of_a_blob_is_known() -> None:
    found = {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.columns
        if column.name == "sha256" and isinstance(column.type, Text)
    }
    assert found == set(BLOB_REFERENCES)


async def test_nothing_is_removed_while_it_is_copied(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    blob = await blobs.put("w", b"bytes")
    with pinned(tmp_path), pinned(tmp_path):
        assert not await blobs.remove("w", blob.sha256, older_than=-1)
    assert await blobs.remove("w", blob.sha256, older_than=-1)


async def test_what_was_deleted_goes_back_to_the_disk(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        row = (
            "INSERT INTO state (workspace_id, agent_id, scope, scope_key, key, value_json) "
            "VALUES ('w', 'a', 's', 'k', :key, :value_json)"
        )
        rows = [{"key": str(number), "value_json": "x" * 2000} for number in range(10_000)]
        await database.writer.run(lambda tx: tx.executemany(row, rows))
        await database.writer.run(lambda tx: tx.execute("DELETE FROM state"))
        pieces = 1
        while await database.give_back():
            pieces += 1
        ((unused,),) = await asked(database, "PRAGMA freelist_count")
    assert unused <= 1_024
    assert 5 <= pieces <= 50
