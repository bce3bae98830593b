"""A portable copy: every table as lines of JSON, the same whatever database they came from."""

import json
from importlib.metadata import version
from pathlib import Path

from portway.server.archive.bundle import BundleWriter, write_bundle
from portway.server.archive.files import add_blobs, add_keys
from portway.server.archive.manifest import Manifest
from portway.server.archive.place import Place, is_running, must_exist
from portway.server.archive.snapshot import snapshot_of
from portway.server.archive.tables import encode, read_rows, shapes
from portway.server.storage_engine import clock
from portway.server.storage_engine.pins import pinned
from portway.server.storage_engine.transaction import ReadTransaction
from portway.server.storage_engine.upgrade import HEAD

EXPORT = "export"
BACKUP = "backup"
ROWS = "rows"


def export(place: Place, target: Path, *, keys: bool, blobs: bool, kind: str = EXPORT) -> Manifest:
    """Write the archive. The host may run: all rows are of one moment.

    Raises NotFound, WrongState, LimitExceeded (the disk), Unavailable.
    """
    must_exist(place)
    running = is_running(place)
    place.blobs.mkdir(mode=0o700, parents=True, exist_ok=True)
    with pinned(place.blobs), snapshot_of(place) as tx, write_bundle(target) as bundle:
        counts = write_rows(tx, bundle)
        missing = add_blobs(bundle, tx, place) if blobs else []
        has_keys = keys and add_keys(bundle, place)
        return bundle.finish(
            Manifest(
                kind=kind,
                portway=version("portway"),
                revision=HEAD,
                database=ROWS,
                create_time=clock.now(),
                host_running=running,
                keys=has_keys,
                blobs=blobs,
                epoch=epoch_of(tx),
                rows=counts,
                missing=tuple(missing),
            )
        )


def write_rows(tx: ReadTransaction, bundle: BundleWriter) -> dict[str, int]:
    """Every table: a first line with the names of its columns, then a line for each row. Answers how many rows."""
    counts: dict[str, int] = {}
    for shape in shapes():
        with bundle.member(member_of(shape.name), packed=True) as file:
            file.write(json.dumps(shape.columns).encode() + b"\n")
            count = 0
            for page in read_rows(tx, shape):
                file.write(b"".join(encode(shape, row) for row in page))
                count += len(page)
        counts[shape.name] = count
    return counts


def member_of(table: str) -> str:
    return f"tables/{table}.jsonl"


def epoch_of(tx: ReadTransaction) -> int:
    row = tx.one("SELECT COALESCE(MAX(epoch), 0) FROM host_epochs")
    return int(row[0]) if row else 0
