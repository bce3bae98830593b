"""An export, or a backup made of rows, into an empty database of either kind: all of it in one transaction."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from portway.rpc.errors import DataLoss, WrongState
from portway.server.archive.bundle import BundleReader, read_bundle
from portway.server.archive.export import EXPORT, ROWS, member_of
from portway.server.archive.files import KEYS, extract_files
from portway.server.archive.place import Place
from portway.server.archive.restore_checks import check_revision, cursors_of
from portway.server.archive.settle import Settled, settle
from portway.server.archive.tables import TableShape, decode, shapes
from portway.server.storage_engine.database import open_database
from portway.server.storage_engine.dialect import Dialect
from portway.server.storage_engine.transaction import ReadTransaction, SqlValue, Transaction
from portway.server.transcript.search import Placement, index_text
from portway.server.transcript.types import Role

_AT_ONCE = 500
# The engine's own: made with the database, and different in every one.
_OWN = frozenset({"host_epochs", "leases"})
_TRANSCRIPT = "transcript"
# The rows came with numbers of their own: the next one follows them.
_NUMBER_ON = """
SELECT setval(pg_get_serial_sequence('transcript', 'item_number'), GREATEST(MAX(item_number), 1)) FROM transcript
"""


async def import_archive(archive: Path, place: Place, *, moved: bool, kind: str = EXPORT) -> Settled | None:
    """Read the archive into the place, whose database has no rows yet.

    `moved`: the old host was stopped before the export and stays so; otherwise what is pending is put aside, as after a
    restore. Raises DataLoss (the archive), WrongState (the database is in use or not empty), LimitExceeded (the disk).
    """
    with read_bundle(archive, kind) as bundle:
        if bundle.manifest.database != ROWS:
            raise WrongState(f"{archive} holds a database file. Use `portway db restore` for it.")
        check_revision(bundle.manifest)
        # All of it before anything is touched.
        bundle.verify()
        _refuse_other_keys(bundle, place)
        async with open_database(place.options) as database:
            await database.reader.run(_refuse_rows)
            _keep_files(bundle, place)
            return await database.writer.run(_unit(bundle, place, moved))


def _unit(bundle: BundleReader, place: Place, moved: bool) -> Callable[[Transaction], Settled | None]:
    def unit(tx: Transaction) -> Settled | None:
        for shape in shapes():
            if shape.name not in _OWN and member_of(shape.name) in bundle.manifest.members:
                _load(tx, bundle, shape)
        tx.execute(
            "INSERT INTO host_epochs (epoch, process_id, start_time) "
            "SELECT :epoch, 0, :now FROM (SELECT COALESCE(MAX(epoch), 0) AS newest FROM host_epochs) AS past "
            "WHERE past.newest < :epoch",
            {"epoch": bundle.manifest.epoch, "now": tx.now},
        )
        if tx.dialect is Dialect.POSTGRESQL:
            tx.one(_NUMBER_ON)
        return None if moved else settle(tx, bundle.path.name, cursors_of(place))

    return unit


def _load(tx: Transaction, bundle: BundleReader, shape: TableShape) -> None:
    count = 0
    for rows in _rows(bundle, shape):
        tx.executemany(_insert(shape, rows[0]), rows)
        if shape.name == _TRANSCRIPT:
            for row in rows:
                _index(tx, row)
        count += len(rows)
    if count != bundle.manifest.rows.get(shape.name, count):
        raise DataLoss(f"{bundle.path} has {count} rows of {shape.name}, and its manifest says otherwise.")


def _rows(bundle: BundleReader, shape: TableShape) -> Iterator[list[dict[str, SqlValue]]]:
    lines = bundle.lines(member_of(shape.name))
    columns = json.loads(next(lines))
    batch: list[dict[str, SqlValue]] = []
    for line in lines:
        batch.append(decode(shape, columns, line))
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _insert(shape: TableShape, row: dict[str, SqlValue]) -> str:
    names = ", ".join(f'"{column}"' for column in row)
    return f"INSERT INTO {shape.name} ({names}) VALUES ({', '.join(f':{column}' for column in row)})"


def _index(tx: Transaction, row: dict[str, SqlValue]) -> None:
    text = str(row["text"])
    if text:
        where = Placement(
            str(row["workspace_id"]), str(row["conversation_id"]), Role(str(row["role"])), str(row["kind"])
        )
        index_text(tx, int(str(row["item_number"])), where, text)


def _refuse_rows(tx: ReadTransaction) -> None:
    for shape in shapes():
        if shape.name in _OWN:
            continue
        if tx.one(f"SELECT 1 FROM {shape.name} LIMIT 1") is not None:
            raise WrongState(
                f"The database has rows already (in {shape.name}). An archive is read into an empty one only: name "
                "another folder or database."
            )


def _refuse_other_keys(bundle: BundleReader, place: Place) -> None:
    if KEYS not in bundle.manifest.members or not place.keys.exists():
        return
    if b"".join(bundle.pieces(KEYS)) != place.keys.read_bytes():
        raise WrongState(f"{place.keys} holds other keys than the archive. Move it away first.")


def _keep_files(bundle: BundleReader, place: Place) -> None:
    """Blobs that are there already are the same by their name."""
    extract_files(bundle, place.data, again=True)
