"""Rules over images: whose they are, who may remove them, and when nobody can."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import structlog

from portway.box.images.interface import Images
from portway.box.images.types import SHARED, Image, ImageName, Validation
from portway.box.images.validation import LiveValidation, Validations
from portway.rpc.errors import NotPermitted, Reason, WrongState


@dataclass(frozen=True, slots=True)
class Pulling:
    """How far a pull is; at its end with the image, and what was left out of it."""

    received_bytes: int
    total_bytes: int
    image: Image | None = None
    notes: tuple[str, ...] = ()


class ImageDirectory:
    """The images of the backend that is chosen, with what sessions and validations do with them."""

    def __init__(
        self,
        images: Callable[[], Images | None],
        count_of_sessions: Callable[[str], int],
        require_open: Callable[[], None],
        validations: Validations,
    ) -> None:
        self._of_backend = images
        self._count_of_sessions = count_of_sessions
        self._require_open = require_open
        self._validations = validations

    def _images(self) -> Images:
        images = self._of_backend()
        if images is None:
            raise WrongState(
                "the backend of this box has no images that it keeps; `portway status` names the backend",
                reason=Reason.NOT_SUPPORTED_HERE,
            )
        return images

    def get(self, name: ImageName) -> tuple[Image, int]:
        """The image, and how many sessions use it."""
        image = self._images().find(name)
        return image, self._count_of_sessions(image.reference)

    def list(self, workspace_id: str) -> Sequence[tuple[Image, int]]:
        images = self._of_backend()
        found = images.list(workspace_id) if images is not None else ()
        return [(image, self._count_of_sessions(image.reference)) for image in found]

    async def add(self, name: ImageName, data: AsyncIterator[bytes]) -> tuple[Image, tuple[str, ...]]:
        self._require_open()
        image, notes = await self._images().add(name, data)
        structlog.get_logger().info("an image was imported", image=name.name, digest=image.digest, size=image.size)
        return image, notes

    async def pull(self, name: ImageName) -> AsyncIterator[Pulling]:
        """Fetches an image; closing the iterator gives it up. Only the newest step is kept for who reads slowly."""
        self._require_open()
        now, arrived = Pulling(0, 0), asyncio.Event()

        def progress(received: int, total: int) -> None:
            nonlocal now
            now = Pulling(received, total)
            arrived.set()

        fetching = asyncio.ensure_future(self._images().fetch(name, progress))
        fetching.add_done_callback(lambda _: arrived.set())
        try:
            while not fetching.done():
                await arrived.wait()
                arrived.clear()
                if not fetching.done():
                    yield now
            image, notes = fetching.result()
        finally:
            fetching.cancel()
            await asyncio.wait([fetching])
        yield Pulling(now.total_bytes, now.total_bytes, image, notes)
        structlog.get_logger().info("an image was pulled", image=name.name, digest=image.digest, source=image.source)

    async def remove(self, name: ImageName) -> None:
        images = self._images()
        image = images.find(name)
        if image.name.workspace_id == SHARED != name.workspace_id:
            raise NotPermitted(f"image {name.name!r} is for all workspaces; only who looks after all may remove it")
        sessions = self._count_of_sessions(image.reference)
        validations = self._validations.count_of_image(image.reference)
        if sessions or validations:
            what = f"{sessions} sessions use" if sessions else "a validation uses"
            raise WrongState(f"{what} image {name.name!r}; delete them first (or wait)", reason=Reason.IN_USE)
        await images.remove(image)
        structlog.get_logger().info("an image was removed", image=name.name, digest=image.digest)

    def validate(self, name: ImageName) -> LiveValidation:
        self._require_open()
        return self._validations.begin(self._images(), name)

    def validation(self, workspace_id: str, validation_id: str) -> Validation:
        return self._validations.get(workspace_id, validation_id)
