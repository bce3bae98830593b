"""What lies beside the database: blobs and keys, into an archive and out of it."""

import re
from pathlib import Path

from portway.rpc.errors import DataLoss
from portway.server.archive.bundle import BundleReader, BundleWriter
from portway.server.archive.place import Place
from portway.server.storage_engine.blob_references import referred
from portway.server.storage_engine.blobs import blob_place
from portway.server.storage_engine.dialect import TABLE_NAMES
from portway.server.storage_engine.location import sync_folder
from portway.server.storage_engine.transaction import ReadTransaction, SqlValue

KEYS = "keys.json"
_BLOBS = "blobs/"
_BLOB_NAME = re.compile(r"blobs/w-[A-Za-z0-9_.~%-]+/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_PAGE = """
SELECT workspace_id, sha256 FROM ({referred}) AS referred
WHERE (workspace_id, sha256) > (:workspace_id, :sha256) ORDER BY workspace_id, sha256 LIMIT 1000
"""


def referred_blobs(tx: ReadTransaction) -> list[tuple[str, str]]:
    """(workspace_id, sha256) of everything that rows refer to, each once."""
    sql = _PAGE.format(referred=referred({row[0] for row in tx.all(TABLE_NAMES[tx.dialect])}))
    found: list[tuple[str, str]] = []
    after: dict[str, SqlValue] = {"workspace_id": "", "sha256": ""}
    while rows := tx.all(sql, after):
        found += [(row[0], row[1]) for row in rows]
        after = {"workspace_id": rows[-1][0], "sha256": rows[-1][1]}
    return found


def add_blobs(bundle: BundleWriter, tx: ReadTransaction, place: Place) -> list[str]:
    """Put every blob that rows refer to into the archive; answers those that are not on disk.

    The caller holds the pin since before the rows were looked at. Raises DataLoss for a damaged file.
    """
    missing: list[str] = []
    for workspace_id, sha256 in referred_blobs(tx):
        name = _BLOBS + blob_place(workspace_id, sha256)
        try:
            member = bundle.add(name, place.data / name, packed=False)
        except FileNotFoundError:
            missing.append(name)
            continue
        if member.sha256 != sha256:
            raise DataLoss(
                f"The file {place.data / name} is damaged: its bytes have another digest. No archive was made. Put the "
                "file back from an older backup, or delete the artifact, and try again."
            )
    return missing


def add_keys(bundle: BundleWriter, place: Place) -> bool:
    """Whether there is a key file to put in."""
    if not place.keys.exists():
        return False
    bundle.add(KEYS, place.keys, packed=False)
    return True


def extract_files(bundle: BundleReader, folder: Path, *, again: bool = False) -> None:
    """Blobs and keys into a folder, each checked. Raises DataLoss, also for a name that no archive has.

    `again`: what is there already stays; the caller knows that it is the same. A file has its name when it is whole.
    """
    made = {folder}
    for name in bundle.manifest.members:
        if again and (folder / name).exists():
            continue
        if name == KEYS:
            _extract(bundle, name, folder / KEYS)
        elif name.startswith(_BLOBS):
            match = _BLOB_NAME.fullmatch(name)
            if match is None or bundle.manifest.members[name].sha256 != match[2]:
                raise DataLoss(f"{bundle.path} is damaged: {name} is no blob. Nothing was changed. Use another one.")
            target = folder / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made |= {target.parent, target.parent.parent, folder / "blobs"}
            _extract(bundle, name, target)
    for path in made:
        sync_folder(path)


def _extract(bundle: BundleReader, name: str, target: Path) -> None:
    unfinished = target.with_name(target.name + ".part")
    unfinished.unlink(missing_ok=True)
    bundle.extract(name, unfinished)
    unfinished.rename(target)
