"""ArtifactService over the wire."""

import hashlib
import os

import pytest

from portway.rpc.errors import InvalidInput, NotFound, NotPermitted, OutOfRange, PayloadTooLarge, Reason
from portway.server.artifacts.reaper import Reaper
from portway.v1 import artifact_pb2, audit_pb2, content_pb2, event_pb2, workspace_pb2
from tests.asking import ask, stream, upload
from tests.server.callers import calling_as
from tests.server.hosting import Hosted, a_message

MIB = 1024 * 1024
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 100


def frames(content: bytes, **start: object) -> list[artifact_pb2.CreateArtifactRequest]:
    first = artifact_pb2.CreateArtifactRequest(start=artifact_pb2.CreateArtifactStart(**start))  # type: ignore[arg-type]
    pieces = [content[begin : begin + MIB] for begin in range(0, len(content), MIB)]
    return [first, *(artifact_pb2.CreateArtifactRequest(data=piece) for piece in pieces)]


async def put(served: Hosted, content: bytes, **start: object) -> content_pb2.ArtifactRef:
    answer = await upload(served.channel, *frames(content, **start))
    ref: content_pb2.ArtifactRef = answer.artifact.ref
    return ref


async def read(served: Hosted, artifact_id: str, offset: int = 0, length: int = 0) -> bytes:
    request = artifact_pb2.ReadArtifactRequest(artifact_id=artifact_id, offset=offset, length=length)
    pieces = [answer.data async for answer in stream(served.channel, request)]
    assert all(len(piece) <= 256 * 1024 for piece in pieces)
    return b"".join(pieces)


async def blobs(served: Hosted) -> list[tuple[str, str]]:
    return [one async for one in served.parts.stores.blobs.old(older_than=-10)]


async def test_bytes_come_back_as_they_were_sent_whole_and_in_ranges(served: Hosted) -> None:
    content = os.urandom(3 * MIB + 17)
    ref = await put(served, content, name="data.bin", size=len(content), sha256=hashlib.sha256(content).hexdigest())
    assert (ref.size, ref.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert await read(served, ref.artifact_id) == content
    assert await read(served, ref.artifact_id, offset=MIB - 1, length=2) == content[MIB - 1 : MIB + 1]
    assert await read(served, ref.artifact_id, offset=len(content)) == b""
    for offset, length in ((len(content) + 1, 0), (0, len(content) + 1)):
        with pytest.raises(OutOfRange):
            await read(served, ref.artifact_id, offset, length)


async def test_an_empty_file_is_a_file(served: Hosted) -> None:
    ref = await put(served, b"", name="empty.txt")
    assert (ref.size, ref.mime_type) == (0, "text/plain")
    assert await read(served, ref.artifact_id) == b""


async def test_a_file_has_a_name_without_folders_and_a_type_that_its_bytes_allow(served: Hosted) -> None:
    ref = await put(served, PNG, name="../../etc/passwd\n")
    assert (ref.name, ref.mime_type) == ("passwd", "image/png")
    with pytest.raises(InvalidInput) as refusal:
        await put(served, b"<html>", name="a.png", mime_type="image/png")
    assert "text/plain" in refusal.value.message


async def test_too_much_is_refused_with_the_limit_and_what_to_do(served: Hosted) -> None:
    for start in ({"size": 21 * MIB}, {}):
        with pytest.raises(PayloadTooLarge) as refusal:
            await put(served, b"x" * (21 * MIB), **start)
        assert refusal.value.reason == Reason.PAYLOAD_TOO_LARGE
        assert "20 MiB" in refusal.value.message
        assert "Send a smaller one" in refusal.value.message
    assert await blobs(served) == []


async def test_what_was_said_of_the_bytes_is_checked_and_leaves_no_artifact(served: Hosted) -> None:
    for start, field in (({"size": 4}, "start.size"), ({"sha256": "0" * 64}, "start.sha256")):
        with pytest.raises(InvalidInput) as refusal:
            await put(served, b"hello", **start)
        assert refusal.value.fields[0].field == field
    rows = await served.parts.stores.database.reader.run(lambda tx: tx.all("SELECT 1 FROM artifacts LIMIT 1"))
    assert rows == []


async def test_frames_out_of_order_are_refused(served: Hosted) -> None:
    start, data = frames(b"hello", name="a")
    for wrong in ([data], [start, start], [artifact_pb2.CreateArtifactRequest()]):
        with pytest.raises(InvalidInput) as refusal:
            await upload(served.channel, *wrong)
        assert refusal.value.reason == Reason.UNEXPECTED_FRAME


async def test_the_same_bytes_twice_are_two_artifacts_and_one_file(served: Hosted) -> None:
    one, other = await put(served, PNG, name="a.png"), await put(served, PNG, name="b.png")
    assert one.artifact_id != other.artifact_id
    assert len(await blobs(served)) == 1
    await ask(served.channel, artifact_pb2.DeleteArtifactRequest(artifact_id=one.artifact_id))
    with pytest.raises(NotFound):
        await read(served, one.artifact_id)
    assert await read(served, other.artifact_id) == PNG
    audit = await ask(served.channel, audit_pb2.ListAuditEntriesRequest(action="artifact.delete"))
    assert [entry.resource for entry in audit.audit_entries] == [one.artifact_id]


async def test_an_upload_expires_unless_a_message_refers_to_it(served: Hosted) -> None:
    kept, lost = await put(served, b"kept", name="kept.txt"), await put(served, b"lost", name="lost.txt")
    assert kept.HasField("expire_time")
    message = a_message("look")
    message.parts.append(content_pb2.ContentPart(file=content_pb2.MediaPart(artifact=kept)))
    accepted = await served.submit(message)
    got = (await ask(served.channel, artifact_pb2.GetArtifactRequest(artifact_id=kept.artifact_id))).artifact
    assert not got.ref.HasField("expire_time")
    assert got.conversation_id == accepted.conversation_id
    stores = served.parts.stores
    await stores.database.writer.run(
        lambda tx: tx.execute("UPDATE artifacts SET expire_time = 1 WHERE artifact_id = :id", {"id": lost.artifact_id})
    )
    reaper = Reaper(stores.database.writer, stores.artifacts, stores.blobs)
    assert await reaper.reap() == 1
    with pytest.raises(NotFound):
        await ask(served.channel, artifact_pb2.GetArtifactRequest(artifact_id=lost.artifact_id))
    # Its bytes were put lately: somebody may be about to refer to them. The sweep takes them when they are old.
    assert len(await blobs(served)) == 2
    (orphan,) = [one for one in await blobs(served) if one[1] == hashlib.sha256(b"lost").hexdigest()]
    path = stores.blobs._path(*orphan)
    os.utime(path, (1, 1))
    assert await reaper.sweep() == 1
    assert await read(served, kept.artifact_id) == b"kept"


async def test_an_event_that_names_a_missing_artifact_is_refused(served: Hosted) -> None:
    message = a_message("look")
    part = content_pb2.MediaPart(artifact=content_pb2.ArtifactRef(artifact_id="art_missing"))
    message.parts.append(content_pb2.ContentPart(file=part))
    with pytest.raises(NotFound):
        await served.submit(message)
    listed = await ask(served.channel, event_pb2.ListEventsRequest())
    assert not listed.events


async def test_another_workspace_has_no_such_artifact(served: Hosted) -> None:
    ref = await put(served, b"ours", name="ours.txt")
    workspace = workspace_pb2.Workspace(workspace_id="elsewhere", name="Elsewhere")
    await ask(served.channel, workspace_pb2.CreateWorkspaceRequest(workspace=workspace))
    async with calling_as(served, "operator", "elsewhere") as there:
        for request in (
            artifact_pb2.GetArtifactRequest(artifact_id=ref.artifact_id),
            artifact_pb2.DeleteArtifactRequest(artifact_id=ref.artifact_id),
        ):
            with pytest.raises(NotFound):
                await ask(there, request)
    async with calling_as(served, "viewer") as viewer:
        with pytest.raises(NotPermitted):
            await ask(viewer, artifact_pb2.DeleteArtifactRequest(artifact_id=ref.artifact_id))
