"""One archive file: a zip whose files are hashed as they pass, whole under its name or not there at all."""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from portway.rpc.errors import DataLoss, LimitExceeded, NotFound, Reason, WrongState
from portway.server.archive.manifest import FORMAT, NAME, Manifest, Member
from portway.server.storage_engine.documents import from_json, to_json
from portway.server.storage_engine.location import sync_folder

PIECE = 1024 * 1024
_MANIFEST_BYTES = 1 << 30
_FULL = (28, 122)


class BundleWriter:
    """Files go in one after the other."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.members: dict[str, Member] = {}

    @contextmanager
    def member(self, name: str, *, packed: bool) -> Iterator["HashingFile"]:
        """`packed`: compressed. What is compressed already only costs time."""
        how = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        info = zipfile.ZipInfo(name)
        info.compress_type = how
        info.external_attr = 0o600 << 16
        info._compresslevel = 1  # type: ignore[attr-defined]
        with self._archive.open(info, "w", force_zip64=True) as file:
            hashing = HashingFile(file)
            yield hashing
        self.members[name] = Member(hashing.digest.hexdigest(), hashing.size)

    def add(self, name: str, source: Path, *, packed: bool) -> Member:
        """A file from the disk, piece by piece."""
        with source.open("rb") as file, self.member(name, packed=packed) as target:
            while piece := file.read(PIECE):
                target.write(piece)
        return self.members[name]

    def finish(self, manifest: Manifest) -> Manifest:
        """The manifest, with every file so far; the last thing to be written."""
        whole = replace(manifest, members=self.members)
        self._archive.writestr(NAME, to_json(whole), compress_type=zipfile.ZIP_DEFLATED)
        return whole


class HashingFile:
    """Counts and hashes what is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, piece: bytes) -> None:
        self.digest.update(piece)
        self.size += len(piece)
        self._file.write(piece)


@contextmanager
def write_bundle(path: Path) -> Iterator[BundleWriter]:
    """The archive has its name only after the block ended well and all of it is on disk.

    Raises WrongState where it cannot be written; LimitExceeded when the disk is full: nothing is left there then.
    """
    unfinished = path.with_name(path.name + ".part")
    if path.exists():
        raise WrongState(f"The file {path} is there already. Move it away, or choose another name.")
    try:
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
                    yield BundleWriter(archive)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
            sync_folder(path.parent)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise disk_problem(path, error) from error


def disk_problem(path: Path, error: OSError) -> Exception:
    """What an OSError below the path means to a person."""
    if error.errno in _FULL:
        return LimitExceeded(
            f"The disk that holds {path.parent} is full; nothing was kept there. Free space, or choose another folder.",
            reason=Reason.DISK_FULL,
        )
    return WrongState(f"{path} cannot be written or read: {error.strerror or error}.")


def ensure_free(folder: Path, wanted: int) -> None:
    """Raises LimitExceeded where less than `wanted` bytes are free: better before than in the middle."""
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise LimitExceeded(
            f"About {wanted // 1048576 + 1} MiB are needed in {folder}, and {free // 1048576} MiB are free. Free "
            "space, or choose another folder.",
            reason=Reason.DISK_FULL,
        )


class BundleReader:
    """An archive that is whole as far as its directory goes; each file is checked as it is read."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._archive = archive

    def pieces(self, name: str) -> Iterator[bytes]:
        """The file in pieces. Raises DataLoss, at the latest with its last piece, when it is not what was put in."""
        expected = self.manifest.members[name]
        digest, size = hashlib.sha256(), 0
        try:
            with self._archive.open(name) as file:
                while piece := file.read(PIECE):
                    digest.update(piece)
                    size += len(piece)
                    yield piece
        except (zipfile.BadZipFile, KeyError, EOFError) as error:
            raise _damaged(self.path, f"{name}: {error}") from error
        if (digest.hexdigest(), size) != (expected.sha256, expected.size):
            raise _damaged(self.path, f"{name} has other bytes than the manifest says")

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a text file, checked like `pieces`."""
        rest = b""
        for piece in self.pieces(name):
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole
        if rest:
            yield rest

    def extract(self, name: str, target: Path) -> None:
        """Write the file there, on disk before this returns. Raises DataLoss."""
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for piece in self.pieces(name):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    def verify(self) -> None:
        """Read everything and compare. Raises DataLoss."""
        for name in self.manifest.members:
            for _ in self.pieces(name):
                pass


@contextmanager
def read_bundle(path: Path, kind: str) -> Iterator[BundleReader]:
    """Raises NotFound; DataLoss when it is no whole archive; WrongState for another kind or a newer format."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield BundleReader(path, archive, _manifest(path, archive, kind))
    except FileNotFoundError:
        raise NotFound(f"There is no archive at {path}.") from None
    except zipfile.BadZipFile as error:
        raise _damaged(path, str(error)) from error


def _manifest(path: Path, archive: zipfile.ZipFile, kind: str) -> Manifest:
    try:
        info = archive.getinfo(NAME)
        if info.file_size > _MANIFEST_BYTES:
            raise _damaged(path, "its manifest is larger than any that Portway writes")
        manifest = from_json(Manifest, archive.read(info).decode())
    except (KeyError, UnicodeDecodeError) as error:
        raise _damaged(path, "it has no manifest") from error
    if manifest.format > FORMAT:
        raise WrongState(
            f"{path} was made by a newer Portway ({manifest.portway}). Use that version, or a newer one, to read it."
        )
    if manifest.kind != kind:
        other = "`portway db import`" if manifest.kind == "export" else "`portway db restore`"
        raise WrongState(f"{path} is no {kind} but a {manifest.kind}. Use {other} for it.")
    names = archive.namelist()
    if len(set(names)) != len(names) or set(names) != {*manifest.members, NAME}:
        raise _damaged(path, "its files are not those of its manifest")
    return manifest


def _damaged(path: Path, what: str) -> DataLoss:
    return DataLoss(f"{path} is damaged or not an archive of Portway ({what}). Nothing was changed. Use another one.")
