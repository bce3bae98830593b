"""What a backend does that can start sandboxes from images."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from portway.box.images.registry.pull import Progress
from portway.box.images.types import Image, ImageName


class Images(Protocol):
    """The images of one backend. None of it waits for a sandbox; who uses an image is for the sessions to know."""

    def find(self, name: ImageName) -> Image:
        """The image of this name, the workspace's own before one of all. Raises `NotFound`."""
        ...

    def list(self, workspace_id: str) -> Sequence[Image]:
        """Those that a workspace can use, its own and those of all, by name; one that is covered is left out."""
        ...

    def for_session(self, name: ImageName) -> Image:
        """What a new session starts from: `find`, and beside it what the operator put into an engine and allows.

        Whether an engine has that is known when the sandbox is made. Raises `NotFound`.
        """
        ...

    async def fetch(self, name: ImageName, progress: Progress) -> tuple[Image, tuple[str, ...]]:
        """The image, pulled where it is not here and the operator allows it, and what was left out.

        Nothing stays when it fails or is cancelled. Raises `NotFound`, `NotPermitted` and what `add` raises.
        """
        ...

    async def add(self, name: ImageName, data: AsyncIterator[bytes]) -> tuple[Image, tuple[str, ...]]:
        """Makes an image of a stream: a tar or an archive with layers. Returns what was left out beside it, in words.

        Nothing stays when it fails or is cancelled. Raises `Conflict` (name), `InvalidInput`, `LimitExceeded`.
        """
        ...

    async def remove(self, image: Image) -> None:
        """Removes an image that nothing uses. It cannot be found from the first moment on, before anything waits."""
        ...
