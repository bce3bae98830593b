"""Artifacts: metadata that expires."""

from dataclasses import replace

import pytest

from portway.rpc.errors import NotFound
from portway.rpc.ids import new_id
from portway.server.artifacts.store import (
    FIRST_PAGE,
    StoredArtifacts,
    add_artifact,
    attach_artifacts,
    remove_artifact,
    remove_expired,
)
from portway.server.artifacts.types import ArtifactFilter, NewArtifact
from portway.server.storage.store import put_object
from portway.server.storage.types import Area, StorageSpace
from portway.server.storage_engine.clock import SECOND, now
from portway.server.storage_engine.database import Database
from tests.contracts.store.given import WORKSPACE

DIGEST = "0f" * 32


def an_artifact(**more: str | int) -> NewArtifact:
    new = NewArtifact(
        workspace_id=WORKSPACE,
        artifact_id=new_id("art"),
        name="report.pdf",
        mime_type="application/pdf",
        kind="file",
        size=12,
        sha256=DIGEST,
    )
    return replace(new, **more)  # type: ignore[arg-type]


async def added(database: Database, new: NewArtifact) -> NewArtifact:
    await database.writer.run(lambda tx: add_artifact(tx, new))
    return new


async def test_an_artifact_is_read_in_its_workspace_alone(database: Database) -> None:
    new = await added(database, an_artifact(summary="Q3"))
    found = await StoredArtifacts(database.reader).artifact(WORKSPACE, new.artifact_id)
    assert (found.name, found.summary, found.sha256) == ("report.pdf", "Q3", DIGEST)
    with pytest.raises(NotFound):
        await StoredArtifacts(database.reader).artifact("other", new.artifact_id)


async def test_an_upload_expires_unless_a_message_refers_to_it(database: Database) -> None:
    soon = now() + 3600 * SECOND
    kept = await added(database, an_artifact(expire_time=soon))
    expired = await added(database, an_artifact(expire_time=1))
    artifacts = StoredArtifacts(database.reader)
    with pytest.raises(NotFound):
        await artifacts.artifact(WORKSPACE, expired.artifact_id)

    await database.writer.run(
        lambda tx: attach_artifacts(tx, WORKSPACE, [kept.artifact_id], event_id="evt_1", conversation_id="cnv_1")
    )
    with pytest.raises(NotFound):
        await database.writer.run(
            lambda tx: attach_artifacts(tx, WORKSPACE, [expired.artifact_id], event_id="evt_1", conversation_id="cnv_1")
        )
    assert (await artifacts.artifact(WORKSPACE, kept.artifact_id)).expire_time == 0
    assert await database.writer.run(lambda tx: remove_expired(tx, 10)) == [(WORKSPACE, DIGEST)]
    assert await database.writer.run(lambda tx: remove_expired(tx, 10)) == []


async def test_bytes_are_in_use_while_anything_refers_to_them(database: Database) -> None:
    artifacts = StoredArtifacts(database.reader)
    one, two = await added(database, an_artifact()), await added(database, an_artifact())
    assert await database.writer.run(lambda tx: remove_artifact(tx, WORKSPACE, one.artifact_id)) == DIGEST
    assert await artifacts.blob_in_use(WORKSPACE, DIGEST)
    await database.writer.run(lambda tx: remove_artifact(tx, WORKSPACE, two.artifact_id))
    assert not await artifacts.blob_in_use(WORKSPACE, DIGEST)
    space = StorageSpace(WORKSPACE, Area.WORKSPACE, "")
    await database.writer.run(lambda tx: put_object(tx, space, "k", size=1, sha256=DIGEST))
    assert await artifacts.blob_in_use(WORKSPACE, DIGEST)
    assert not await artifacts.blob_in_use("other", DIGEST)
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: remove_artifact(tx, WORKSPACE, one.artifact_id))


async def test_pages_filter_and_go_on(database: Database) -> None:
    made = [await added(database, an_artifact(run_id=f"run_{n % 2}")) for n in range(4)]
    artifacts = StoredArtifacts(database.reader)
    first = await artifacts.page(WORKSPACE, ArtifactFilter(), FIRST_PAGE, 3)
    rest = await artifacts.page(WORKSPACE, ArtifactFilter(), (first[-1].create_time, first[-1].artifact_id), 3)
    assert [item.artifact_id for item in first + rest] == [item.artifact_id for item in reversed(made)]
    assert len(await artifacts.page(WORKSPACE, ArtifactFilter(run_id="run_1"), FIRST_PAGE, 9)) == 2
    assert [item.artifact_id for item in await artifacts.of_run(WORKSPACE, "run_0", 9)] == [
        made[0].artifact_id,
        made[2].artifact_id,
    ]
    assert await artifacts.of_run(WORKSPACE, "", 9) == []
