"""In a mount namespace of its own: a small disk that fills up under the host, and gets room again.

Prints one JSON object with what happened. The test that starts it reads that; nothing is asserted here.
"""

import asyncio
import ctypes
import json
import os
import sys
from functools import partial
from pathlib import Path

from portway.rpc.errors import LimitExceeded, PortwayError
from portway.server.storage_engine.blobs import Blobs
from portway.server.storage_engine.database import Database, DatabaseOptions, open_database
from portway.server.storage_engine.transaction import Transaction

_SIZE = 12 * 1024 * 1024


def mount_small_disk(folder: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={_SIZE},mode=0700".encode()
    if libc.mount(b"small", os.fsencode(folder), b"tmpfs", 0, options):
        raise OSError(ctypes.get_errno(), "mount")


def note(tx: Transaction, number: int) -> None:
    tx.insert_many("notes", [{"id": number, "body": os.urandom(20_000)}])


async def fill(database: Database) -> tuple[list[int], dict[str, int]]:
    """Write until several writes in a row were refused; answers what was acknowledged, and the refusals by reason."""
    acknowledged: list[int] = []
    refused: dict[str, int] = {}
    first = 0
    while sum(refused.values()) < 100:
        numbers = range(first, first + 20)
        answers = await asyncio.gather(
            *(database.writer.run(partial(note, number=number)) for number in numbers), return_exceptions=True
        )
        for number, answer in zip(numbers, answers, strict=True):
            if answer is None:
                acknowledged.append(number)
            else:
                reason = str(answer.reason) if isinstance(answer, PortwayError) else repr(answer)
                refused[reason] = refused.get(reason, 0) + 1
        first += 20
    return acknowledged, refused


async def refused_opening(folder: Path) -> str:
    try:
        async with open_database(DatabaseOptions(url=f"sqlite:///{folder}/second/portway.db")):
            return "opened"
    except PortwayError as error:
        return f"{type(error).__name__}: {error.message}"


async def scenario(folder: Path) -> dict[str, object]:
    filler = folder / "filler"
    filler.write_bytes(b"x" * 1024 * 1024)
    (folder / "second filler").write_bytes(b"x" * 4 * 1024 * 1024)
    told: dict[str, object] = {}
    async with open_database(DatabaseOptions(url=f"sqlite:///{folder}/portway.db")) as database:
        blobs = Blobs(folder / "blobs")
        await database.writer.run(lambda tx: tx.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, body BLOB)"))
        try:
            database.ensure_room()
        except LimitExceeded as error:
            told["low"] = error.message
        acknowledged, told["refused"] = await fill(database)
        try:
            await blobs.put("default", os.urandom(4 * 1024 * 1024))
        except PortwayError as error:
            told["blob"] = str(error.reason)
        told["uploads_left"] = len(list((folder / "blobs" / "uploads").iterdir()))
        told["second"] = await refused_opening(folder)
        filler.unlink()
        await database.writer.run(partial(note, number=-1))
        rows = await database.reader.run(lambda tx: tx.all("SELECT id FROM notes"))
        told["acknowledged"] = len(acknowledged)
        told["lost"] = sorted(set(acknowledged) - {row[0] for row in rows})
        told["after"] = -1 in {row[0] for row in rows}
    told["full_again"] = await refused_opening(folder)
    (folder / "second filler").unlink()
    async with open_database(DatabaseOptions(url=f"sqlite:///{folder}/portway.db")) as database:
        rows = await database.reader.run(lambda tx: tx.all("SELECT id FROM notes"))
        told["lost_after_reopening"] = sorted(set(acknowledged) - {row[0] for row in rows})
        told["check"] = await database.reader.run(lambda tx: tx.all("PRAGMA integrity_check"))
    return told


disk = Path(sys.argv[1])
mount_small_disk(disk)
print(json.dumps(asyncio.run(scenario(disk))))
