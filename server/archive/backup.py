"""A copy of everything, of one moment, while the host goes on: database, blobs, and the keys where asked for."""

import sqlite3
from importlib.metadata import version
from pathlib import Path

from portway.rpc.errors import DataLoss
from portway.server.archive.bundle import disk_problem, ensure_free, write_bundle
from portway.server.archive.export import BACKUP, epoch_of, export
from portway.server.archive.files import add_blobs, add_keys
from portway.server.archive.manifest import Manifest
from portway.server.archive.place import Place, is_running, must_exist
from portway.server.archive.snapshot import revision_of, snapshot_of
from portway.server.storage_engine import clock
from portway.server.storage_engine.backup import copy_database
from portway.server.storage_engine.dialect import TABLE_NAMES
from portway.server.storage_engine.pins import pinned
from portway.server.storage_engine.sqlite import fault_of, is_damage
from portway.server.storage_engine.transaction import ReadTransaction

DATABASE = "database/portway.db"
FILE = "sqlite"
_SPARE = 16 * 1024 * 1024


def back_up(place: Place, target: Path, *, keys: bool, blobs: bool) -> Manifest:
    """Write the archive; the host may run.

    Raises NotFound, WrongState (the target is there), LimitExceeded (the disk), DataLoss, Unavailable.
    """
    must_exist(place)
    source = place.sqlite
    if source is None:
        # A server keeps no file of ours: its backup is every row, of one transaction.
        return export(place, target, keys=keys, blobs=blobs, kind=BACKUP)
    running = is_running(place)
    place.blobs.mkdir(mode=0o700, parents=True, exist_ok=True)
    ensure_free(target.parent, 2 * source.stat().st_size + _SPARE)
    copy = target.with_name(f".{target.name}.database")
    try:
        with pinned(place.blobs):
            _copy(source, copy)
            with (
                snapshot_of(Place(place.data, f"sqlite:///{copy}"), any_revision=True) as tx,
                write_bundle(target) as bundle,
            ):
                bundle.add(DATABASE, copy, packed=True)
                missing = add_blobs(bundle, tx, place) if blobs else []
                has_keys = keys and add_keys(bundle, place)
                return bundle.finish(
                    Manifest(
                        kind=BACKUP,
                        portway=version("portway"),
                        revision=revision_of(tx),
                        database=FILE,
                        create_time=clock.now(),
                        host_running=running,
                        keys=has_keys,
                        blobs=blobs,
                        epoch=epoch_of(tx),
                        rows=_counts(tx),
                        missing=tuple(missing),
                    )
                )
    finally:
        for left in (copy, *copy.parent.glob(f"{copy.name}-*"), copy.with_name(copy.name + ".part")):
            left.unlink(missing_ok=True)


def _copy(source: Path, copy: Path) -> None:
    copy.unlink(missing_ok=True)
    try:
        copy_database(source, copy)
        # The copy is read as it is: without a log of its own beside it, nothing is left when it is deleted.
        connection = sqlite3.connect(copy)
        try:
            connection.execute("PRAGMA journal_mode=DELETE")
        finally:
            connection.close()
    except sqlite3.Error as error:
        if is_damage(error):
            raise DataLoss(
                f"{source} is damaged ({error}): no backup was made. `portway db check` says more; restore the last "
                "good backup."
            ) from error
        raise fault_of(error).problem from error
    except OSError as error:
        raise disk_problem(copy, error) from error


def _counts(tx: ReadTransaction) -> dict[str, int]:
    """Rows of the tables that this file has, whatever its revision."""
    names = tx.all(TABLE_NAMES[tx.dialect])
    counts: dict[str, int] = {}
    for (name,) in names:
        row = tx.one(f'SELECT COUNT(*) FROM "{name}"')
        counts[name] = int(row[0]) if row else 0
    return counts
