"""A backup back in its place: checked as a whole first, then put there in one step, and told what not to do again."""

import shutil
import sqlite3
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from portway.rpc.errors import DataLoss, WrongState
from portway.server.archive.backup import DATABASE, FILE
from portway.server.archive.bundle import BundleReader, disk_problem, ensure_free, read_bundle
from portway.server.archive.export import BACKUP
from portway.server.archive.files import KEYS, extract_files
from portway.server.archive.load import import_archive
from portway.server.archive.manifest import Manifest
from portway.server.archive.place import Place
from portway.server.archive.restore_checks import check_revision, cursors_of
from portway.server.archive.settle import Settled, settle
from portway.server.archive.swap import put_in_place
from portway.server.storage_engine.clock import ForwardClock
from portway.server.storage_engine.location import sync_folder
from portway.server.storage_engine.sqlite import SqliteTransaction, connect_writer
from portway.server.storage_engine.upgrade import bring_up_to_date

_NAME = "portway.db"
_SPARE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Restored:
    """`aside`: where the folder lies that was there before. `keys`: whether stored secrets can be read."""

    manifest: Manifest
    settled: Settled
    aside: Path | None
    keys: bool


async def restore(archive: Path, place: Place, *, replace: bool, keys: Path | None) -> Restored:
    """Put the backup there. The target is empty, or `replace` moves it aside; its host does not run.

    Raises NotFound, DataLoss (the archive; nothing was touched), WrongState (the target, a newer schema), LimitExceeded
    (the disk).
    """
    with read_bundle(archive, BACKUP) as bundle:
        manifest = bundle.manifest
        check_revision(manifest)
        if manifest.database != FILE:
            settled = await import_archive(archive, place, moved=False, kind=BACKUP)
            if settled is None:
                raise AssertionError("a restore settles")
            return Restored(manifest, settled, None, place.keys.exists())
        return _restore_file(bundle, place, replace=replace, keys=keys)


def _restore_file(bundle: BundleReader, place: Place, *, replace: bool, keys: Path | None) -> Restored:
    target = place.data
    if place.sqlite != target / _NAME:
        raise WrongState(
            f"The archive holds a database file, and the host of {target} keeps its data elsewhere. Restore into a "
            "folder of its own without `host.database`, then move with `portway db export` and `portway db import`."
        )
    used = target.exists() and any(target.iterdir())
    if used and not replace:
        raise WrongState(
            f"The folder {target} is not empty. Name another one, or give `--replace`: it is moved aside then, whole."
        )
    if used and not (target / _NAME).exists():
        raise WrongState(f"The folder {target} is not one of a host, so it is not moved aside. Name another one.")
    # Who has the lock may not be moved away under their feet.
    with place.lock if used else nullcontext():
        staging = target.with_name(f".{target.name}.restoring")
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            ensure_free(target.parent, sum(member.size for member in bundle.manifest.members.values()) + _SPARE)
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(mode=0o700)
            settled = _build(bundle, Place(staging, f"sqlite:///{staging / _NAME}"), keys)
            aside = _place(staging, target) if used else None
            if aside is None:
                staging.rename(target)
                sync_folder(target.parent)
        except OSError as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise disk_problem(target, error) from error
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    return Restored(bundle.manifest, settled, aside, place.keys.exists())


def _build(bundle: BundleReader, staging: Place, keys: Path | None) -> Settled:
    """The whole folder, beside its place. Every byte is checked on its way."""
    database = staging.data / _NAME
    bundle.extract(DATABASE, database)
    extract_files(bundle, staging.data)
    if keys is not None and KEYS not in bundle.manifest.members:
        shutil.copyfile(keys, staging.keys)
        staging.keys.chmod(0o600)
    with closing(sqlite3.connect(database)) as connection:
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise DataLoss(f"The database in {bundle.path} is damaged: {answer}. Nothing was changed. Use another one.")
    bring_up_to_date(database)
    # The archive itself is the backup from before this migration.
    for copy in staging.data.glob(f"{_NAME}.before-*"):
        copy.unlink()
    settled = _settle(database, bundle.path.name, staging)
    sync_folder(staging.data)
    return settled


def _settle(database: Path, source: str, staging: Place) -> Settled:
    connection = connect_writer(database)
    transaction = SqliteTransaction(connection, ForwardClock())
    try:
        transaction.begin()
        settled = settle(transaction, source, cursors_of(staging))
        transaction.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        transaction.close()
    return settled


def _place(staging: Path, target: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = target.with_name(f"{target.name}.before-restore-{stamp}")
    if aside.exists():
        raise WrongState(f"{aside} is there already. Move it away and try again.")
    put_in_place(staging, target, aside)
    return aside
