"""SkillService on the wire."""

from collections.abc import AsyncIterator
from typing import Never, Protocol, TypeVar

from portway.rpc.archive.paths import checked_path
from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.rpc.errors import InvalidInput, NotFound, OutOfRange, Reason
from portway.rpc.validation import check
from portway.server.skills.folder import SkillFolder
from portway.server.skills.manage import SkillKeeper
from portway.server.skills.store import Skills, digest_of
from portway.server.skills.types import SkillFile
from portway.server.skills.wire import active_message, document_of, file_message, planned_message, skill_message
from portway.server.storage_engine.blobs import Blobs
from portway.server.workspaces.types import DEFAULT_WORKSPACE
from portway.v1 import skill_pb2

DEFAULT_PAGE = 50
FRAME_BYTES = 256 * 1024

Request = TypeVar("Request", bound="_Piece")
Unary = Call[Never, Never]


class _Piece(Protocol):
    @property
    def data(self) -> bytes: ...


class SkillServicer:
    def __init__(
        self, skills: Skills, keeper: SkillKeeper, folder: SkillFolder, blobs: Blobs, cursors: CursorCodec
    ) -> None:
        self._skills = skills
        self._keeper = keeper
        self._folder = folder
        self._blobs = blobs
        self._cursors = cursors

    async def CreateSkill(self, request: skill_pb2.CreateSkillRequest, call: Unary) -> skill_pb2.CreateSkillResponse:
        wanted = request.skill
        made = await self._keeper.create(
            call.caller, wanted.name, document_of(wanted), wanted.writable, request.request_id
        )
        return skill_pb2.CreateSkillResponse(skill=skill_message(made))

    async def GetSkill(self, request: skill_pb2.GetSkillRequest, call: Unary) -> skill_pb2.GetSkillResponse:
        found = await self._skills.skill(call.caller.workspace_id, request.name)
        return skill_pb2.GetSkillResponse(skill=skill_message(found))

    async def ListSkills(self, request: skill_pb2.ListSkillsRequest, call: Unary) -> skill_pb2.ListSkillsResponse:
        listing = f"skills\0{call.caller.workspace_id}"
        after = self._cursors.read_page(request.page_token, listing) if request.page_token else ""
        size = request.page_size or DEFAULT_PAGE
        found = await self._skills.page(call.caller.workspace_id, after, size + 1)
        token = self._cursors.write_page(listing, found[size - 1].name) if len(found) > size else ""
        return skill_pb2.ListSkillsResponse(skills=[skill_message(one) for one in found[:size]], next_page_token=token)

    async def UpdateSkill(self, request: skill_pb2.UpdateSkillRequest, call: Unary) -> skill_pb2.UpdateSkillResponse:
        wanted = request.skill
        changed = await self._keeper.update(
            call.caller, wanted.name, document_of(wanted), wanted.writable, wanted.revision
        )
        return skill_pb2.UpdateSkillResponse(skill=skill_message(changed))

    async def DeleteSkill(self, request: skill_pb2.DeleteSkillRequest, call: Unary) -> skill_pb2.DeleteSkillResponse:
        await self._keeper.delete(call.caller, request.name)
        return skill_pb2.DeleteSkillResponse()

    async def ScanSkills(self, request: skill_pb2.ScanSkillsRequest, call: Unary) -> skill_pb2.ScanSkillsResponse:
        if call.caller.workspace_id != DEFAULT_WORKSPACE:
            raise NotFound("the folder of skills belongs to the default workspace")
        found = await self._folder.scan()
        return skill_pb2.ScanSkillsResponse(
            skills=[skill_message(one) for one in found.skills], problems=list(found.problems)
        )

    async def ListSkillFiles(
        self, request: skill_pb2.ListSkillFilesRequest, call: Unary
    ) -> skill_pb2.ListSkillFilesResponse:
        listing = f"skill-files\0{call.caller.workspace_id}\0{request.name}"
        after = self._cursors.read_page(request.page_token, listing) if request.page_token else ""
        size = request.page_size or DEFAULT_PAGE
        found = await self._skills.files(call.caller.workspace_id, request.name, after, size + 1)
        token = self._cursors.write_page(listing, found[size - 1].path) if len(found) > size else ""
        return skill_pb2.ListSkillFilesResponse(
            files=[file_message(one) for one in found[:size]], next_page_token=token
        )

    async def ReadSkillFile(
        self, request: skill_pb2.ReadSkillFileRequest, call: Call[None, skill_pb2.ReadSkillFileResponse]
    ) -> None:
        workspace_id = call.caller.workspace_id
        file = await self._skills.file(workspace_id, request.name, checked_path(request.path))
        if request.offset > file.size:
            raise OutOfRange(f"{request.path} has {file.size} bytes: none begins at {request.offset}.")
        pieces = self._blobs.stream(workspace_id, file.sha256, request.offset, file.size - request.offset, FRAME_BYTES)
        async for piece in pieces:
            await call.write(skill_pb2.ReadSkillFileResponse(data=piece))

    async def WriteSkillFile(
        self, call: Call[skill_pb2.WriteSkillFileRequest, Never]
    ) -> skill_pb2.WriteSkillFileResponse:
        first = _first(await call.read())
        written = await self._keeper.write_file(call.caller, first.name, first.path, _pieces(first, call))
        return skill_pb2.WriteSkillFileResponse(file=file_message(written))

    async def PreviewSkillZip(
        self, call: Call[skill_pb2.PreviewSkillZipRequest, Never]
    ) -> skill_pb2.PreviewSkillZipResponse:
        first = _first(await call.read())
        found = await self._keeper.preview(call.caller, first.source_folder, first.target_suffix, _pieces(first, call))
        files: list[tuple[str, SkillFile]] = [(spec.name, file) for spec in found.specs for file in spec.files]
        return skill_pb2.PreviewSkillZipResponse(
            skills=[planned_message(spec, digest_of(spec.files)) for spec in found.specs],
            files=[file_message(file, f"{name}/") for name, file in files],
            conflicts=found.conflicts,
        )

    async def InstallSkillZip(
        self, call: Call[skill_pb2.InstallSkillZipRequest, Never]
    ) -> skill_pb2.InstallSkillZipResponse:
        first = _first(await call.read())
        made = await self._keeper.install(call.caller, first.source_folder, first.target_suffix, _pieces(first, call))
        return skill_pb2.InstallSkillZipResponse(skills=[skill_message(one) for one in made])

    async def ActivateSkill(
        self, request: skill_pb2.ActivateSkillRequest, call: Unary
    ) -> skill_pb2.ActivateSkillResponse:
        active = await self._keeper.activate(call.caller, request.conversation_id, request.name, request.active)
        return skill_pb2.ActivateSkillResponse(active=active)

    async def ListActiveSkills(
        self, request: skill_pb2.ListActiveSkillsRequest, call: Unary
    ) -> skill_pb2.ListActiveSkillsResponse:
        workspace_id, conversation_id = call.caller.workspace_id, request.conversation_id
        listing = f"active-skills\0{workspace_id}\0{conversation_id}"
        after = self._cursors.read_page(request.page_token, listing) if request.page_token else ""
        size = request.page_size or DEFAULT_PAGE
        found = await self._skills.active(workspace_id, conversation_id, after, size + 1)
        token = self._cursors.write_page(listing, found[size - 1].name) if len(found) > size else ""
        return skill_pb2.ListActiveSkillsResponse(
            skills=[active_message(one) for one in found[:size]], next_page_token=token
        )


def _first(frame: Request | None) -> Request:
    if frame is None:
        raise InvalidInput("the call carries no request message", reason=Reason.MISSING_MESSAGE)
    return frame


async def _pieces(first: Request, call: Call[Request, Never]) -> AsyncIterator[bytes]:
    """The bytes of all frames; only the first one's settings count."""
    frame: Request | None = first
    while frame is not None:
        check(frame)  # type: ignore[arg-type]
        if frame.data:
            yield frame.data
        frame = await call.read()
