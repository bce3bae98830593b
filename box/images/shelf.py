"""Images that are known by name and owner, made by the box's own unpacker. Implements `Images`.

Their content is a directory each, for backends that mount one, or goes on to a depot of the backend.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import structlog

from portway.box.images.registry.pull import Progress, Puller
from portway.box.images.settings import ImageSettings
from portway.box.images.types import SHARED, Image, ImageName
from portway.box.images.unpack.terms import ROOT, Bounds
from portway.box.images.unpacking import Confinement, unpack
from portway.rpc.errors import Conflict, DeadlineExceeded, LimitExceeded, NotFound, Quota, Resource, Unavailable

_FILE = "image.json"
# What the reference of an image in a depot begins with, and no name of an image can.
KEPT = "!"
# What begins with this is not, or no longer, an image.
_PASSING = "."
_LEAST_BYTES = 1024 * 1024
# Given how much it may hold: an archive, and where it comes from ('' for a caller).
_Opened = Callable[[int], AbstractAsyncContextManager[tuple[AsyncIterator[bytes], str]]]


class Depot(Protocol):
    """Where a backend keeps the content of images, if it does not mount the shelf's own directories."""

    async def keep(self, reference: str, root: Path) -> None:
        """Takes a copy of a tree that nobody changes. Cancelled, it may have kept it all the same. Raises as `add`."""
        ...

    async def drop(self, reference: str) -> None:
        """Forgets one, also one that it never kept. Raises `Unavailable`."""
        ...


class ImageShelf:
    """Keeps images: one directory each, never changed after it has its name, known by an id that no caller chooses."""

    def __init__(
        self,
        folder: Path,
        settings: ImageSettings,
        confinement: Confinement,
        backend: str,
        puller: Puller | None = None,
        depot: Depot | None = None,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._confinement = confinement
        self._backend = backend
        self._puller = puller
        self._depot = depot
        self._images: dict[ImageName, Image] = {}
        self._coming: dict[ImageName, int] = {}

    def open(self) -> int:
        """Reads what is there and removes what an earlier life left unfinished. Returns how much it removed."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        swept = 0
        for directory in sorted(self._folder.iterdir()):
            if directory.name.startswith(_PASSING):
                # A depot may have it too: `sweep_depot` asks.
                if self._depot is None:
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

    def for_session(self, name: ImageName) -> Image:
        return self.find(name)

    async def sweep_depot(self) -> None:
        """Takes from the depot what an earlier life left unfinished there. Raises `Unavailable`; then the next start
        asks again."""
        for directory in sorted(self._folder.glob(f"{_PASSING}*")):
            if self._depot is not None:
                await self._depot.drop(directory.name.removeprefix(_PASSING))
                await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    async def fetch(self, name: ImageName, progress: Progress) -> tuple[Image, tuple[str, ...]]:
        try:
            return self.find(name), ()
        except NotFound:
            if self._puller is None:
                raise
        puller, timeout = self._puller, self._settings.pull_timeout
        # Before it takes a place.
        puller.allowed(name.name)

        @asynccontextmanager
        async def opened(most_bytes: int) -> AsyncIterator[tuple[AsyncIterator[bytes], str]]:
            async with puller.open(name.name, most_bytes, progress) as pull, aclosing(pull.archive) as archive:  # type: ignore[type-var]
                yield archive, pull.source

        try:
            async with asyncio.timeout(timeout):
                return await self._make(name, opened)
        except TimeoutError:
            text = f"image {name.name!r} did not come within {timeout:g} s (`box.images.pull_timeout`)"
            raise DeadlineExceeded(text) from None

    async def add(self, name: ImageName, data: AsyncIterator[bytes]) -> tuple[Image, tuple[str, ...]]:
        @asynccontextmanager
        async def opened(_most_bytes: int) -> AsyncIterator[tuple[AsyncIterator[bytes], str]]:
            yield data, ""

        return await self._make(name, opened)

    async def _make(self, name: ImageName, opened: _Opened) -> tuple[Image, tuple[str, ...]]:
        name.check()
        allowance = self._admit(name)
        self._coming[name] = allowance
        reference = f"{KEPT if self._depot is not None else ''}{os.urandom(12).hex()}"
        passing = self._folder / f"{_PASSING}{reference}"
        try:
            passing.mkdir(mode=0o700)
            settings = self._settings
            bounds = Bounds(allowance, settings.max_entries, settings.max_ratio)
            try:
                async with opened(allowance) as (data, source):
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
                    env=tuple((variable, value) for variable, value in measured.env),
                    source=source,
                )
                if self._depot is not None:
                    await self._depot.keep(reference, passing / ROOT)
                    await _to_its_end(asyncio.to_thread(shutil.rmtree, passing / ROOT))
                await _to_its_end(asyncio.to_thread(self._settle, passing, image))
            except BaseException:
                await _to_its_end(self._withdraw(passing, reference))
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

    async def _withdraw(self, passing: Path, reference: str) -> None:
        if await self._dropped(reference):
            for directory in (passing, self._folder / reference):
                await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    async def _dropped(self, reference: str) -> bool:
        """Whether no depot has it any more. Where one cannot be asked, the next start asks it."""
        try:
            if self._depot is not None:
                await self._depot.drop(reference)
        except Unavailable as error:
            structlog.get_logger().warning("an image was not removed", image=reference, reason=error.message)
            return False
        return True

    async def remove(self, image: Image) -> None:
        del self._images[image.name]
        await _to_its_end(self._remove(image.reference))

    async def _remove(self, reference: str) -> None:
        going = self._folder / f"{_PASSING}{reference}"
        await asyncio.to_thread(self._put_aside, reference, going)
        if await self._dropped(reference):
            await asyncio.to_thread(shutil.rmtree, going, ignore_errors=True)

    def _put_aside(self, reference: str, going: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._folder / reference).rename(going)
            _sync(self._folder)


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
    env = tuple((variable, value) for variable, value in document.pop("env", ()))
    return Image(name=name, reference=reference, backend=backend, env=env, **document)
