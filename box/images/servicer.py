"""ImageService on the wire."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Never

from portway.box.images.directory import ImageDirectory
from portway.box.images.types import SHARED, Image, ImageName
from portway.box.images.wire import image_to, pulling_to, validation_to
from portway.box.paging import Pager
from portway.box.workspaces import EVERY_WORKSPACE, workspace_of
from portway.rpc.call import Call
from portway.rpc.errors import InvalidInput, Reason
from portway.rpc.identity import Caller
from portway.v1 import image_pb2 as pb

DEFAULT_PAGE = 50
MAX_FRAME_BYTES = 1024 * 1024


def owner_of(caller: Caller, named: str, kind: str = "image") -> str:
    """Whose images a request is about: a caller of every workspace that names none means those of all."""
    if caller.workspace_id == EVERY_WORKSPACE and not named:
        return SHARED
    return workspace_of(caller, named, kind)


class ImageServicer:
    """Translates; the rules are the directory's."""

    def __init__(self, images: ImageDirectory, pages: Pager) -> None:
        self._images = images
        self._pages = pages

    async def ValidateImage(self, request: pb.ValidateImageRequest, call: Call[None, pb.ValidateImageResponse]) -> None:
        name = ImageName(owner_of(call.caller, request.workspace_id), request.image)
        async for state in self._images.validate(name).states():
            await call.write(pb.ValidateImageResponse(validation=validation_to(state)))

    async def GetImageValidation(
        self, request: pb.GetImageValidationRequest, call: Call[Never, Never]
    ) -> pb.GetImageValidationResponse:
        owner = owner_of(call.caller, request.workspace_id, "image validation")
        validation = self._images.validation(owner, request.validation_id)
        return pb.GetImageValidationResponse(validation=validation_to(validation))

    async def GetImage(self, request: pb.GetImageRequest, call: Call[Never, Never]) -> pb.GetImageResponse:
        name = ImageName(owner_of(call.caller, request.workspace_id), request.name)
        return pb.GetImageResponse(image=image_to(*self._images.get(name)))

    async def ListImages(self, request: pb.ListImagesRequest, call: Call[Never, Never]) -> pb.ListImagesResponse:
        owner = owner_of(call.caller, request.workspace_id)
        found, size = self._images.list(owner), request.page_size or DEFAULT_PAGE
        page, token = self._pages.page(found, _by_name, f"images/{owner}", request.page_token, size)
        return pb.ListImagesResponse(images=[image_to(*each) for each in page], next_page_token=token)

    async def ImportImage(self, call: Call[pb.ImportImageRequest, None]) -> pb.ImportImageResponse:
        first = await call.read()
        if first is None or not first.HasField("start"):
            raise InvalidInput("the first frame of an import is `start`", reason=Reason.UNEXPECTED_FRAME)
        name = ImageName(owner_of(call.caller, first.start.workspace_id), first.start.name)
        image, notes = await self._images.add(name, _pieces(call))
        return pb.ImportImageResponse(image=image_to(image), notes=notes)

    async def PullImage(self, request: pb.PullImageRequest, call: Call[None, pb.PullImageResponse]) -> None:
        name = ImageName(owner_of(call.caller, request.workspace_id), request.reference)
        async with aclosing(self._images.pull(name)) as steps:  # type: ignore[type-var]
            async for step in steps:
                await call.write(pulling_to(step))

    async def RemoveImage(self, request: pb.RemoveImageRequest, call: Call[Never, Never]) -> pb.RemoveImageResponse:
        await self._images.remove(ImageName(owner_of(call.caller, request.workspace_id), request.name))
        return pb.RemoveImageResponse()


def _by_name(each: tuple[Image, int]) -> tuple[str]:
    return (each[0].name.name,)


async def _pieces(call: Call[pb.ImportImageRequest, None]) -> AsyncIterator[bytes]:
    while (frame := await call.read()) is not None:
        if frame.WhichOneof("kind") != "data":
            raise InvalidInput("after `start` an import takes `data` only", reason=Reason.UNEXPECTED_FRAME)
        if len(frame.data) > MAX_FRAME_BYTES:
            raise InvalidInput.field("data", f"has more than {MAX_FRAME_BYTES} bytes in one frame")
        yield frame.data
