"""Whether everything is there and whole: the database's own check, the bytes of blobs, the keys of secrets."""

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass

from portway.server.archive.files import referred_blobs
from portway.server.archive.place import Place, must_exist
from portway.server.archive.snapshot import snapshot_of
from portway.server.storage_engine.blobs import blob_place
from portway.server.storage_engine.keyring import load_keyring
from portway.server.storage_engine.sqlite import fault_of, is_damage
from portway.server.storage_engine.transaction import ReadTransaction

_FIRST = 20


@dataclass(frozen=True, slots=True)
class Report:
    """`problems` in words; none: everything is well. `blobs` were looked at."""

    problems: tuple[str, ...]
    blobs: int


def check(place: Place, *, quick: bool) -> Report:
    """Also while the host runs. `quick`: blobs are there, their bytes are not read. Raises NotFound, Unavailable."""
    must_exist(place)
    problems = _check_file(place, quick)
    if problems:
        return Report(tuple(problems), 0)
    with snapshot_of(place) as tx:
        keyless = _keyless(tx, place)
        blobs = referred_blobs(tx)
    for workspace_id, sha256 in blobs:
        path = place.blobs / blob_place(workspace_id, sha256)
        if not path.exists():
            # It may have been removed, row and bytes, since the rows were read: then nothing is wrong.
            if _still_referred(place, workspace_id, sha256):
                problems.append(f"the bytes of a file are missing: {path}")
        elif not quick:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    problems.append(f"the bytes of a file are not what they were: {path}")
    return Report((*keyless, *problems), len(blobs))


def _check_file(place: Place, quick: bool) -> list[str]:
    if place.sqlite is None:
        return []
    try:
        with closing(sqlite3.connect(f"{place.sqlite.as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute(f"PRAGMA {'quick' if quick else 'integrity'}_check({_FIRST})").fetchall()
    except sqlite3.Error as error:
        if is_damage(error):
            return [f"the database file is damaged: {error}"]
        raise fault_of(error).problem from error
    return [] if rows == [("ok",)] else [f"the database file is damaged: {row[0]}" for row in rows]


def _still_referred(place: Place, workspace_id: str, sha256: str) -> bool:
    with snapshot_of(place) as tx:
        return (workspace_id, sha256) in referred_blobs(tx)


def _keyless(tx: ReadTransaction, place: Place) -> list[str]:
    used = {str(row[0]) for row in tx.all("SELECT DISTINCT key_id FROM secrets")}
    if not used:
        return []
    if not place.keys.exists():
        return [f"{place.keys} is missing: stored secrets cannot be read. Put the key file back."]
    known = {key.key_id for key in load_keyring(place.keys).keys}
    return [f"secrets are encrypted with the key {key}, which is not in {place.keys}" for key in sorted(used - known)]
