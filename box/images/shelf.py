"""Images as directories in the box's own folder. Implements `Images` for backends that mount a directory."""

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any

import structlog

from portway.box.images.settings import ImageSettings
from portway.box.images.types import SHARED, Image, ImageName
from portway.box.images.unpack.terms import ROOT, Bounds
from portway.box.images.unpacking import Confinement, unpack
from portway.rpc.errors import Conflict, LimitExceeded, NotFound, Quota, Resource

_FILE = "image.json"
# What begins with this is not, or no longer, an image.
_PASSING = "."
_LEAST_BYTES = 1024 * 1024


class ImageShelf:
    """Keeps images: one directory each, never changed after it has its name, known by an id that no caller chooses."""

    def __init__(self, folder: Path, settings: ImageSettings, confinement: Confinement, backend: str) -> None:
        self._folder = folder
        self._settings = settings
        self._confinement = confinement
        self._backend = backend
        self._images: dict[ImageName, Image] = {}
        self._coming: dict[ImageName, int] = {}

    def open(self) -> int:
        """Reads what is there and removes what an earlier life left unfinished. Returns how much it removed."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        swept = 0
        for directory in sorted(self._folder.iterdir()):
            if directory.name.startswith(_PASSING):
                shutil.rmtree(directory, ignore_errors=True)
                swept += 1
                continue
            try:
                image = _from_json(json.loads((directory / _FILE).read_text()), directory.name, self._backend)
                self._images[image.name] = image
            except (OSError, ValueError, KeyError, TypeError) as error:
                structlog.get_logger().error("an image cannot be read", directory=str(directory), error=repr(error))
        return swept

    def root(self, reference: str) -> Path:
        """The directory that a sandbox mounts. Raises `NotFound` for an image that is not there any more."""
        image = next((image for image in self._images.values() if image.reference == reference), None)
        if image is None:
            raise NotFound("the image of this session is not there any more; import it again and make a new session")
        return self._folder / image.reference / ROOT

    def find(self, name: ImageName) -> Image:
        for owner in (name.workspace_id, SHARED):
            found = self._images.get(ImageName(owner, name.name))
            if found is not None:
                return found
        raise NotFound(
            f"no image {name.name!r} in this workspace; `portway box image import FILE --name {name.name}` makes one",
            resource=Resource("image", name.name),
        )

    def list(self, workspace_id: str) -> Sequence[Image]:
        names = {key.name for key in self._images if key.workspace_id in (workspace_id, SHARED)}
        return [self.find(ImageName(workspace_id, name)) for name in sorted(names)]

    async def fetch(self, name: ImageName) -> Image:
        return self.find(name)

    async def add(self, name: ImageName, data: AsyncIterator[bytes]) -> tuple[Image, tuple[str, ...]]:
        name.check()
        allowance = self._admit(name)
        self._coming[name] = allowance
        reference = os.urandom(12).hex()
        passing = self._folder / f"{_PASSING}{reference}"
        try:
            passing.mkdir(mode=0o700)
            settings = self._settings
            bounds = Bounds(allowance, settings.max_entries, settings.max_ratio)
            try:
                measured, notes = await unpack(passing, data, bounds, self._confinement, settings.import_idle)
                image = Image(
                    name=name,
                    reference=reference,
                    digest=measured.digest,
                    size=measured.size,
                    entry_count=measured.entry_count,
                    architecture=measured.architecture,
                    backend=self._backend,
                    create_time=time.time(),
                )
                await _to_its_end(asyncio.to_thread(self._settle, passing, image))
            except BaseException:
                await _to_its_end(asyncio.to_thread(self._withdraw, passing, reference))
                raise
            self._images[name] = image
            return image, notes
        finally:
            del self._coming[name]

    def _admit(self, name: ImageName) -> int:
        """How many bytes an import of this name may use on the disk. Raises where it cannot begin."""
        settings = self._settings
        if name in self._images or name in self._coming:
            what = "exists; remove it first, or choose another name" if name in self._images else "is being imported"
            raise Conflict(f"image {name.name!r} {what}", resource=Resource("image", name.name))
        if len(self._coming) >= settings.concurrent_imports:
            raise LimitExceeded(
                f"{len(self._coming)} images are being imported; try again when one is done",
                retry_after=5.0,
                quota=Quota("box", f"{settings.concurrent_imports} imports at the same time"),
            )
        if len(self._images) + len(self._coming) >= settings.max_count:
            raise LimitExceeded(
                f"this box has {len(self._images)} images; remove one (`portway box image remove NAME`)",
                quota=Quota("box", f"at most {settings.max_count} images (`box.images.max_count`)"),
            )
        used = sum(image.size for image in self._images.values()) + sum(self._coming.values())
        allowance = min(settings.max_image_bytes, settings.max_bytes - used)
        if allowance < min(_LEAST_BYTES, settings.max_image_bytes):
            raise LimitExceeded(
                f"the images of this box have {used} bytes; remove one (`portway box image remove NAME`)",
                quota=Quota("box", f"at most {settings.max_bytes} bytes (`box.images.max_bytes`)"),
            )
        return allowance

    def _settle(self, passing: Path, image: Image) -> None:
        with (passing / _FILE).open("w") as file:
            json.dump(_to_json(image), file)
            file.flush()
            os.fsync(file.fileno())
        # Closed to everybody but this server; what is mounted from it is open to those who see the mount.
        os.chown(passing, os.geteuid(), os.getegid())
        os.chmod(passing, 0o700)
        passing.rename(self._folder / image.reference)
        _sync(self._folder)

    def _withdraw(self, passing: Path, reference: str) -> None:
        for directory in (passing, self._folder / reference):
            shutil.rmtree(directory, ignore_errors=True)

    async def remove(self, image: Image) -> None:
        del self._images[image.name]
        await _to_its_end(asyncio.to_thread(self._remove, image.reference))

    def _remove(self, reference: str) -> None:
        going = self._folder / f"{_PASSING}{reference}"
        with contextlib.suppress(FileNotFoundError):
            (self._folder / reference).rename(going)
            _sync(self._folder)
        shutil.rmtree(going, ignore_errors=True)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Waits for work on the disk also where the caller is cancelled meanwhile: what follows counts on its end."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    finally:
        await asyncio.wait([task])


def _sync(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _to_json(image: Image) -> dict[str, Any]:
    document = dataclasses.asdict(image)
    del document["reference"], document["backend"]
    return document


def _from_json(document: dict[str, Any], reference: str, backend: str) -> Image:
    name = ImageName(**document.pop("name"))
    if not (isinstance(document["size"], int) and isinstance(document["digest"], str)):
        raise ValueError("its description is damaged")
    return Image(name=name, reference=reference, backend=backend, **document)
