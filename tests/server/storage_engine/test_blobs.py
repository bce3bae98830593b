"""Blobs: whole or not at all, named by their content, one workspace apart from the other."""

import asyncio
import gc
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.rpc.errors import DataLoss, InvalidInput, NotFound, OutOfRange, PayloadTooLarge
from portway.server.storage_engine.blobs import RANGE_LIMIT, Blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_blob_is_named_by_its_content(blobs: Blobs) -> None:
    content = os.urandom(100_000)
    blob = await blobs.put("default", content)
    assert (blob.sha256, blob.size) == (hashlib.sha256(content).hexdigest(), 100_000)
    assert await blobs.read("default", blob.sha256, 0, 200_000) == content
    assert await blobs.size("default", blob.sha256) == 100_000


async def test_the_same_content_twice_at_once_is_one_file(blobs: Blobs, tmp_path: Path) -> None:
    made = await asyncio.gather(*(blobs.put("default", b"same") for _ in range(20)))
    assert len(set(made)) == 1
    assert len(await asyncio.to_thread(files, tmp_path)) == 1


async def test_a_blob_of_another_workspace_is_not_there(blobs: Blobs) -> None:
    blob = await blobs.put("a", b"content")
    with pytest.raises(NotFound):
        await blobs.size("b", blob.sha256)
    with pytest.raises(DataLoss):
        await blobs.read("b", blob.sha256, 0, 10)


@pytest.mark.parametrize("workspace_id", ["../default", "a/b", "..", "", "w\0x", "空間", "W" * 60])
async def test_no_workspace_id_reaches_outside_of_its_folder(blobs: Blobs, tmp_path: Path, workspace_id: str) -> None:
    blob = await blobs.put(workspace_id, b"content")
    assert await blobs.read(workspace_id, blob.sha256, 0, 10) == b"content"
    (path,) = await asyncio.to_thread(files, tmp_path)
    assert path.parent.parent.parent == tmp_path / "blobs"


@pytest.mark.parametrize("name", ["", "..", "../../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, "0" * 63 + "\n"])
async def test_nothing_but_a_digest_names_a_blob(blobs: Blobs, name: str) -> None:
    with pytest.raises(InvalidInput):
        await blobs.read("default", name, 0, 1)
    with pytest.raises(InvalidInput):
        await blobs.remove("default", name)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 300), offset=st.integers(0, 310), length=st.integers(-1, 320), piece=st.integers(1, 64))
def test_ranges_are_those_of_the_content(
    tmp_path_factory: pytest.TempPathFactory, size: int, offset: int, length: int, piece: int
) -> None:
    async def scenario() -> None:
        blobs = Blobs(tmp_path_factory.mktemp("blobs"))
        content = bytes(number % 251 for number in range(size))
        blob = await blobs.put("default", content)
        if offset > size:
            with pytest.raises(OutOfRange):
                await blobs.read("default", blob.sha256, offset, length)
            return
        expected = content[offset : offset + max(0, length)]
        assert await blobs.read("default", blob.sha256, offset, length) == expected
        pieces = [part async for part in blobs.stream("default", blob.sha256, offset, length, piece)]
        assert b"".join(pieces) == expected
        assert all(len(part) <= piece for part in pieces)

    asyncio.run(scenario())


async def test_one_read_is_bounded(blobs: Blobs) -> None:
    blob = await blobs.put("default", bytes(RANGE_LIMIT + 100))
    assert len(await blobs.read("default", blob.sha256, 0, RANGE_LIMIT + 100)) == RANGE_LIMIT
    pieces = [len(piece) async for piece in blobs.stream("default", blob.sha256, 0, RANGE_LIMIT + 100)]
    assert sum(pieces) == RANGE_LIMIT + 100


async def test_an_upload_in_pieces_is_bounded_and_leaves_nothing_when_it_is_given_up(
    blobs: Blobs, tmp_path: Path
) -> None:
    async with blobs.upload("default", 10) as writer:
        await writer.write(b"12345")
        await writer.write(b"67890")
        blob = await writer.finish()
    assert await blobs.read("default", blob.sha256, 0, 99) == b"1234567890"
    with pytest.raises(PayloadTooLarge):
        async with blobs.upload("default", 10) as writer:
            await writer.write(b"12345678901")
    async with blobs.upload("default", 10) as writer:
        await writer.write(b"given up")
    assert len(await asyncio.to_thread(files, tmp_path)) == 1


async def test_what_a_crash_left_of_an_upload_is_gone_at_the_next_start(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    writer = await blobs.upload("default", 100).__aenter__()
    await writer.write(b"half of")
    assert len(await asyncio.to_thread(files, tmp_path)) == 1
    await asyncio.to_thread(Blobs, tmp_path)
    assert await asyncio.to_thread(files, tmp_path) == []
    await writer.__aexit__()


async def test_a_blob_that_was_put_lately_is_not_removed(blobs: Blobs) -> None:
    blob = await blobs.put("default", b"content")
    assert not await blobs.remove("default", blob.sha256)
    assert await blobs.size("default", blob.sha256) == 7
    assert await blobs.remove("default", blob.sha256, older_than=0)
    assert not await blobs.remove("default", blob.sha256, older_than=0)
    with pytest.raises(NotFound):
        await blobs.size("default", blob.sha256)


async def test_putting_it_again_protects_an_old_blob(blobs: Blobs, tmp_path: Path) -> None:
    blob = await blobs.put("default", b"content")
    (path,) = await asyncio.to_thread(files, tmp_path)
    await asyncio.to_thread(os.utime, path, (1, 1))
    await blobs.put("default", b"content")
    assert not await blobs.remove("default", blob.sha256)


async def test_an_upload_that_is_cancelled_while_it_begins_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    async def begin() -> None:
        async with blobs.upload("default", 100) as writer:
            await writer.write(b"never asked for")

    for turns in range(8):
        beginning = asyncio.ensure_future(begin())
        for _ in range(turns):
            await asyncio.sleep(0)
        beginning.cancel()
        await asyncio.wait([beginning])
    # Whatever threads still had to do is done: there are no more of them than work after them.
    await asyncio.gather(*(asyncio.to_thread(gc.collect) for _ in range(40)))
    assert await asyncio.to_thread(files, tmp_path) == []
    assert not blobs.under_way
