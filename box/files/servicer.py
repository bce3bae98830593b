"""FileService on the wire."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Never

from portway.box.files import operations
from portway.box.files.find import GlobQuery, GrepQuery, glob, grep
from portway.box.files.places import Place, find_place
from portway.box.files.session_files import FileThreads
from portway.box.files.transfer import packing, unpacking
from portway.box.files.wire import info_to, match_to, packed_to, path_of, unpacked_to
from portway.box.files.writing import FileWriting
from portway.box.sessions.directory import SessionDirectory
from portway.box.sessions.live import OpenSession
from portway.box.sessions.servicer import session_ref
from portway.box.sessions.types import SessionRef
from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.rpc.errors import InvalidInput, LimitExceeded, OutOfRange, Quota, Reason
from portway.rpc.identity import Caller
from portway.v1 import file_pb2 as pb

DEFAULT_PAGE, DEFAULT_GLOB, DEFAULT_GREP = 200, 1000, 200
SEARCHES_EACH = 16


class FileServicer:
    """Translates; paths are judged in `places` and by the kernel."""

    def __init__(
        self, sessions: SessionDirectory, threads: FileThreads, pages: CursorCodec, search_timeout: float
    ) -> None:
        self._sessions = sessions
        self._threads = threads
        self._pages = pages
        self._search_timeout = search_timeout
        self._searches: dict[SessionRef, int] = {}

    @asynccontextmanager
    async def _session(self, caller: Caller, file: pb.FilePath) -> AsyncIterator[OpenSession]:
        self._sessions.require_open()
        async with self._sessions.get(session_ref(caller, file.workspace_id, file.session_id)).using() as session:
            yield session

    @asynccontextmanager
    async def _searching(self, session: OpenSession) -> AsyncIterator[None]:
        """Each search is a process of the session's; a flood of them is refused before it is one of the box's."""
        running = self._searches.get(session.ref, 0)
        if running >= SEARCHES_EACH:
            raise LimitExceeded(
                f"session {session.ref.session_id!r} already runs {running} searches; retry when one has ended",
                retry_after=0.5,
                quota=Quota(f"session:{session.ref.session_id}", f"{SEARCHES_EACH} searches at the same time"),
            )
        self._searches[session.ref] = running + 1
        try:
            yield
        finally:
            self._searches[session.ref] -= 1
            if not self._searches[session.ref]:
                del self._searches[session.ref]

    @staticmethod
    def _place(session: OpenSession, file: pb.FilePath, *, writing: bool = False) -> Place:
        return find_place(session.sandbox.files(), session.spec.working_directory, path_of(file), writing=writing)

    async def ReadFile(self, request: pb.ReadFileRequest, call: Call[None, pb.ReadFileResponse]) -> None:
        async with self._session(call.caller, request.file) as session:
            access, place = session.sandbox.files(), self._place(session, request.file)
            file = await self._threads.run(access, place.path, partial(operations.open_file, place))
            if request.offset > file.info.size:
                raise OutOfRange(f"{place.shown} has {file.info.size} bytes, fewer than the offset {request.offset}")
            end = min(file.info.size, request.offset + request.length) if request.length else None
            await call.write(pb.ReadFileResponse(file=info_to(file.info)))
            offset = request.offset
            while size := operations.CHUNK if end is None else min(end - offset, operations.CHUNK):
                data = await self._threads.run(access, place.path, partial(file.read_at, offset, size))
                if not data:
                    break
                await call.write(pb.ReadFileResponse(data=data))
                offset += len(data)

    async def WriteFile(self, call: Call[pb.WriteFileRequest, None]) -> pb.WriteFileResponse:
        first = await call.read()
        if first is None or not first.HasField("start"):
            raise InvalidInput("the first frame of a write is `start`", reason=Reason.UNEXPECTED_FRAME)
        start = first.start
        async with self._session(call.caller, start.file) as session:
            place = self._place(session, start.file, writing=True)
            writing = FileWriting(self._threads, session.sandbox.files(), place, session.spec.disk_bytes)
            async with writing.begun(mode=start.mode, make_parents=start.make_parents):
                while (frame := await call.read()) is not None:
                    await writing.add(_data(frame))
                info, digest = await writing.finish(start.expected_sha256.lower())
        return pb.WriteFileResponse(file=info_to(info), sha256=digest)

    async def EditFile(self, request: pb.EditFileRequest, call: Call[Never, Never]) -> pb.EditFileResponse:
        async with self._session(call.caller, request.file) as session:
            place = self._place(session, request.file, writing=True)
            old, new, everywhere = request.old_text, request.new_text, request.replace_all
            work = partial(operations.edit, place, old, new, everywhere=everywhere)
            info, count = await self._threads.run(session.sandbox.files(), place.path, work)
        return pb.EditFileResponse(file=info_to(info), replaced_count=count)

    async def Glob(self, request: pb.GlobRequest, call: Call[Never, Never]) -> pb.GlobResponse:
        async with self._session(call.caller, request.directory) as session, self._searching(session):
            query = GlobQuery(path_of(request.directory), request.pattern, request.limit or DEFAULT_GLOB)
            files, truncated = await glob(session, query, self._search_timeout)
        return pb.GlobResponse(files=[info_to(file) for file in files], truncated=truncated)

    async def Grep(self, request: pb.GrepRequest, call: Call[Never, Never]) -> pb.GrepResponse:
        async with self._session(call.caller, request.root) as session, self._searching(session):
            limit = request.limit or DEFAULT_GREP
            query = GrepQuery(path_of(request.root), request.pattern, request.include, request.ignore_case, limit)
            matches, truncated = await grep(session, query, self._search_timeout)
        return pb.GrepResponse(matches=[match_to(match) for match in matches], truncated=truncated)

    async def ListDirectory(
        self, request: pb.ListDirectoryRequest, call: Call[Never, Never]
    ) -> pb.ListDirectoryResponse:
        async with self._session(call.caller, request.directory) as session:
            place = self._place(session, request.directory)
            listing = f"files/{session.ref}/{place.path}"
            after = bytes.fromhex(self._pages.read_page(request.page_token, listing)) if request.page_token else b""
            work = partial(operations.list_directory, place, after, request.page_size or DEFAULT_PAGE)
            files, last = await self._threads.run(session.sandbox.files(), place.path, work)
        token = self._pages.write_page(listing, last.hex()) if last else ""
        return pb.ListDirectoryResponse(files=[info_to(file) for file in files], next_page_token=token)

    async def Stat(self, request: pb.StatRequest, call: Call[Never, Never]) -> pb.StatResponse:
        async with self._session(call.caller, request.file) as session:
            place = self._place(session, request.file)
            work = partial(operations.describe, place)
            return pb.StatResponse(file=info_to(await self._threads.run(session.sandbox.files(), place.path, work)))

    async def Remove(self, request: pb.RemoveRequest, call: Call[Never, Never]) -> pb.RemoveResponse:
        async with self._session(call.caller, request.file) as session:
            place = self._place(session, request.file, writing=True)
            count = await self._threads.run_until_cancelled(
                session.sandbox.files(),
                place.path,
                lambda stopped: operations.remove(place, recursive=request.recursive, stopped=stopped),
            )
        return pb.RemoveResponse(removed_count=count)

    async def Upload(self, call: Call[pb.UploadRequest, None]) -> pb.UploadResponse:
        start = _start(await call.read())
        async with self._session(call.caller, start.directory) as session:
            place = self._place(session, start.directory, writing=True)
            async with unpacking(self._threads, session, place, with_parents=start.make_parents) as upload:
                while (frame := await call.read()) is not None:
                    await upload.add(_data(frame))
                return unpacked_to(await upload.finish())

    async def Download(self, request: pb.DownloadRequest, call: Call[None, pb.DownloadResponse]) -> None:
        async with self._session(call.caller, request.file) as session:
            async with packing(self._threads, session, self._place(session, request.file)) as download:
                while data := await download.next():
                    await call.write(pb.DownloadResponse(data=data))
                await call.write(pb.DownloadResponse(end=packed_to(download.packed)))


def _start(frame: pb.UploadRequest | None) -> pb.UploadStart:
    if frame is None or not frame.HasField("start"):
        raise InvalidInput("the first frame of an upload is `start`", reason=Reason.UNEXPECTED_FRAME)
    return frame.start


def _data(frame: pb.WriteFileRequest | pb.UploadRequest) -> bytes:
    if frame.WhichOneof("kind") != "data":
        raise InvalidInput("after `start` only `data` follows", reason=Reason.UNEXPECTED_FRAME)
    if len(frame.data) > operations.MAX_FRAME_BYTES:
        raise InvalidInput.field("data", f"has more than {operations.MAX_FRAME_BYTES} bytes in one frame")
    return frame.data
