"""Images of a container engine: those that the box made and gave to it, and those of its operator that are allowed.

What others have in a shared engine is neither listed nor used. Nothing of strangers is unpacked by the engine, which
does it as root: it gets a plain tar of a tree that the box's own unpacker has made.
"""

import asyncio
import contextlib
import os
import stat
import tarfile
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from portway.box.backends.engine.engine import Engine
from portway.box.images.registry.pull import Progress
from portway.box.images.registry.reference import Reference
from portway.box.images.shelf import KEPT, ImageShelf
from portway.box.images.types import Image, ImageName
from portway.box.tasks import to_its_end
from portway.rpc.errors import InvalidInput, NotFound, Unavailable

_TEMPORARY_MODE = 0o1777


def is_kept(reference: str) -> bool:
    """Whether a sandbox's image is one that the box gave to the engine."""
    return reference.startswith(KEPT)


class EngineDepot:
    """Implements `Depot`. In the engine an image has the installation's name, and its reference as the tag."""

    def __init__(self, identity: str, engine: Callable[[], Engine], label: str) -> None:
        self._repository = f"portway.box/{identity}"
        self._engine = engine
        self._label = f"LABEL {label}={identity}"

    def name_of(self, reference: str) -> str:
        """What the engine calls it."""
        return f"{self._repository}:{reference.removeprefix(KEPT)}"

    async def keep(self, reference: str, root: Path) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        packer = _Packer(root, writing)
        packer.start()
        try:
            with os.fdopen(reading, "rb") as stream:
                await self._engine().import_image(stream, self.name_of(reference), self._label)
        finally:
            # Without its reader it ends by itself.
            await to_its_end(asyncio.to_thread(packer.join))
        if packer.failure is not None:
            raise Unavailable(f"the image could not be given to the engine: {packer.failure}")

    async def drop(self, reference: str) -> None:
        await self._engine().remove_image(self.name_of(reference))


class _Packer(threading.Thread):
    """Writes a tree to a pipe as a tar: owned by root, names and content as they are, nothing but files and links."""

    def __init__(self, root: Path, pipe: int) -> None:
        super().__init__(name="box-image-tar", daemon=True)
        self._root = root
        self._pipe = pipe
        self.failure: OSError | None = None

    def run(self) -> None:
        try:
            with (
                os.fdopen(self._pipe, "wb") as out,
                tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT) as tar,
            ):
                self._pack(tar)
        except OSError as error:
            self.failure = error

    def _pack(self, tar: tarfile.TarFile) -> None:
        seen: dict[int, str] = {}
        for path, directories, files, parent in os.fwalk(self._root, follow_symlinks=False):
            within = os.path.relpath(path, self._root)
            for name in sorted((*directories, *files)):
                info = tarfile.TarInfo(os.path.normpath(f"{within}/{name}"))
                found = os.stat(name, dir_fd=parent, follow_symlinks=False)
                # An engine gives the memory that it mounts on a directory that directory's mode.
                info.mode = _TEMPORARY_MODE if info.name == "tmp" else stat.S_IMODE(found.st_mode)
                info.mtime = int(found.st_mtime)
                if stat.S_ISDIR(found.st_mode):
                    info.type = tarfile.DIRTYPE
                elif stat.S_ISLNK(found.st_mode):
                    info.type, info.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=parent)
                elif found.st_ino in seen:
                    info.type, info.linkname = tarfile.LNKTYPE, seen[found.st_ino]
                elif stat.S_ISREG(found.st_mode):
                    if found.st_nlink > 1:
                        seen[found.st_ino] = info.name
                    info.size = found.st_size
                    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
                    with os.fdopen(opened, "rb") as file:
                        tar.addfile(info, file)
                    continue
                else:
                    raise OSError(f"{info.name} is neither file, directory nor link")
                tar.addfile(info)


class EngineImages:
    """Implements `Images`: the shelf's, and beside them the operator's own that `allow` names."""

    def __init__(self, shelf: ImageShelf, allow: Sequence[str], engine: Callable[[], Engine]) -> None:
        self._shelf = shelf
        self._allow = allow
        self._engine = engine

    def find(self, name: ImageName) -> Image:
        return self._shelf.find(name)

    def list(self, workspace_id: str) -> Sequence[Image]:
        return self._shelf.list(workspace_id)

    def for_session(self, name: ImageName) -> Image:
        try:
            return self._shelf.find(name)
        except NotFound:
            if not self._is_allowed(name.name):
                raise
        return self._operators(name, "")

    def _is_allowed(self, name: str) -> bool:
        try:
            return Reference.of(name).is_allowed(self._allow)
        except InvalidInput:
            return False

    def _operators(self, name: ImageName, digest: str) -> Image:
        """One that is not the box's: its size and content are the operator's to know."""
        return Image(name, name.name, digest, 0, 0, "", self._engine().kind, 0.0)

    async def fetch(self, name: ImageName, progress: Progress) -> tuple[Image, tuple[str, ...]]:
        try:
            return self._shelf.find(name), ()
        except NotFound:
            with contextlib.suppress(NotFound):
                if self._is_allowed(name.name):
                    return self._operators(name, (await self._engine().image(name.name)).image_id), ()
        return await self._shelf.fetch(name, progress)

    async def add(self, name: ImageName, data: AsyncIterator[bytes]) -> tuple[Image, tuple[str, ...]]:
        return await self._shelf.add(name, data)

    async def remove(self, image: Image) -> None:
        await self._shelf.remove(image)
