"""The box as a client sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import grpc
from google.protobuf.duration_pb2 import Duration

from portway.clients.sockets.handling import Handler, Protocols, handling
from portway.clients.sockets.serve import ServedSocket, serving
from portway.rpc.channel import ClientTls, open_channel
from portway.rpc.client_stream import half_close, send
from portway.rpc.errors import Unavailable
from portway.rpc.status import errors_by_meaning
from portway.v1 import (
    box_pb2,
    box_pb2_grpc,
    file_pb2,
    file_pb2_grpc,
    image_pb2,
    image_pb2_grpc,
    process_pb2,
    process_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    skill_mount_pb2_grpc,
    socket_pb2,
    socket_pb2_grpc,
)

CALL_SECONDS = 60.0
_FRAME_BYTES = 512 * 1024
FRAME_BYTES = 1024 * 1024


class Box:
    """A connection to one box. Use it as `async with Box("127.0.0.1:7710", token=…) as box`."""

    def __init__(self, address: str, *, token: str, tls: ClientTls | None = None) -> None:
        self._channel = open_channel(address, token=token, tls=tls)
        self.sessions = session_pb2_grpc.SessionServiceStub(self._channel)
        self.processes = process_pb2_grpc.ProcessServiceStub(self._channel)
        self.files = file_pb2_grpc.FileServiceStub(self._channel)
        self.sockets = socket_pb2_grpc.SocketServiceStub(self._channel)
        self.images = image_pb2_grpc.ImageServiceStub(self._channel)
        self.skills = skill_mount_pb2_grpc.SkillMountServiceStub(self._channel)
        self.service = box_pb2_grpc.BoxServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def reachable(self, seconds: float) -> bool:
        """Whether there is a connection, made within so long. Without one nothing that is asked gets anywhere."""
        try:
            async with asyncio.timeout(seconds):
                await self._channel.channel_ready()
        except TimeoutError:
            return False
        return True

    async def session(self, session_id: str, *, workspace_id: str = "", profile: str = "") -> session_pb2.Session:
        """The session with this id, made where it does not exist."""
        request = session_pb2.CreateSessionRequest(
            session_id=session_id, workspace_id=workspace_id, spec=session_pb2.SessionSpec(profile=profile)
        )
        with errors_by_meaning():
            answer = await self.sessions.CreateSession(request, timeout=CALL_SECONDS)
        return answer.session

    async def list_sessions(self, workspace_id: str = "") -> list[session_pb2.Session]:
        """The newest sessions, at most 200."""
        request = session_pb2.ListSessionsRequest(workspace_id=workspace_id, page_size=200)
        with errors_by_meaning():
            answer = await self.sessions.ListSessions(request, timeout=CALL_SECONDS)
        return list(answer.sessions)

    async def list_processes(self, session_id: str, workspace_id: str = "") -> list[process_pb2.Process]:
        """The processes of a session, at most 200."""
        request = process_pb2.ListProcessesRequest(session_id=session_id, workspace_id=workspace_id, page_size=200)
        with errors_by_meaning():
            answer = await self.processes.ListProcesses(request, timeout=CALL_SECONDS)
        return list(answer.processes)

    async def exec(
        self,
        session_id: str,
        argv: Sequence[str],
        *,
        workspace_id: str = "",
        seconds: float | None = None,
        env: Mapping[str, str] | None = None,
        stdin: AsyncIterator[bytes] | None = None,
    ) -> AsyncIterator[process_pb2.ExecResponse]:
        """Run a program and get its output as it comes; the last item has `exit`. Leaving the loop kills the program.

        It is killed after `seconds`; the session's profile has the longest time and the default.
        """
        command = process_pb2.Command(argv=process_pb2.Argv(args=argv), env=env)
        if seconds is not None:
            command.timeout.CopyFrom(_duration(seconds))
        start = process_pb2.ExecStart(session_id=session_id, workspace_id=workspace_id, command=command)
        with errors_by_meaning():
            call = self.processes.Exec()
            await send(call, process_pb2.ExecRequest(start=start))
            feeding = asyncio.create_task(_feed(call, stdin))
            try:
                async for answer in call:
                    yield answer
                    if answer.HasField("exit"):
                        return
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
                call.cancel()

    async def upload(
        self,
        session_id: str,
        directory: str,
        archive: AsyncIterator[bytes],
        *,
        workspace_id: str = "",
        make_parents: bool = False,
    ) -> file_pb2.UploadResponse:
        """Unpack a tar archive in a directory of the session, all of it or nothing. See `local_archive.pack`."""
        place = file_pb2.FilePath(session_id=session_id, workspace_id=workspace_id, path=directory)

        start = file_pb2.UploadStart(directory=place, make_parents=make_parents)
        with errors_by_meaning():
            call = self.files.Upload()
            try:
                going = await send(call, file_pb2.UploadRequest(start=start))
                async for piece in archive:
                    for at in range(0, len(piece), FRAME_BYTES):
                        going = going and await send(call, file_pb2.UploadRequest(data=piece[at : at + FRAME_BYTES]))
                    if not going:
                        break
                await half_close(call)
                return await call
            finally:
                # Half an archive is none: where packing it failed, nothing of it is to appear.
                call.cancel()

    async def download(self, session_id: str, path: str, *, workspace_id: str = "") -> AsyncIterator[bytes]:
        """A file or directory of the session as a tar archive; one that is not whole ends with an error.

        See `local_archive.unpack`.
        """
        place = file_pb2.FilePath(session_id=session_id, workspace_id=workspace_id, path=path)
        ended = False
        with errors_by_meaning():
            call = self.files.Download(file_pb2.DownloadRequest(file=place))
            try:
                async for answer in call:
                    ended = answer.HasField("end")
                    if answer.data:
                        yield answer.data
            finally:
                call.cancel()
        if not ended:
            raise Unavailable("the box ended the archive before it was whole; try again")

    @asynccontextmanager
    async def serve_socket(
        self,
        session_id: str,
        name: str,
        handler: Handler | Protocols,
        *,
        workspace_id: str = "",
        port: int | None = None,
        generation: int = 0,
    ) -> AsyncIterator[ServedSocket]:
        """Offers a socket to the commands of a session while the block runs.

        `handler` takes a reader and a writer, as for `asyncio.start_server`, or makes a protocol when called without
        anything. `port`: also on 127.0.0.1 inside; 0 for a free one. An owner of a smaller `generation` is replaced.
        """
        listen = socket_pb2.SocketListen(
            session_id=session_id, workspace_id=workspace_id, name=name, port=port, generation=generation
        )
        async with handling(handler) as protocols, serving(self.sockets, listen, protocols) as served:
            yield served

    async def import_image(
        self, name: str, pieces: AsyncIterator[bytes], *, workspace_id: str = ""
    ) -> image_pb2.ImportImageResponse:
        """Make an image of the bytes of an archive, in pieces of any size. No time limit but the box's own."""
        start = image_pb2.ImportImageStart(name=name, workspace_id=workspace_id)
        with errors_by_meaning():
            call = self.images.ImportImage()
            try:
                if await send(call, image_pb2.ImportImageRequest(start=start)):
                    async for piece in _frames_of(pieces):
                        # A box that has seen enough ends the call.
                        if not await send(call, image_pb2.ImportImageRequest(data=piece)):
                            break
                await half_close(call)
                return await call
            finally:
                call.cancel()

    async def status(self) -> box_pb2.GetBoxStatusResponse:
        """How the box is: backend, what is enforced, and why not where it is not."""
        with errors_by_meaning():
            return await self.service.GetBoxStatus(box_pb2.GetBoxStatusRequest(), timeout=CALL_SECONDS)


async def _frames_of(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        for begin in range(0, len(piece), _FRAME_BYTES):
            yield piece[begin : begin + _FRAME_BYTES]


async def _feed(
    call: grpc.aio.StreamStreamCall[process_pb2.ExecRequest, process_pb2.ExecResponse],
    stdin: AsyncIterator[bytes] | None,
) -> None:
    """Give the program its input. It may end before it has read everything: then nobody wants the rest."""
    if stdin is not None:
        async for piece in stdin:
            if not await send(call, process_pb2.ExecRequest(stdin=piece)):
                return
    await send(call, process_pb2.ExecRequest(close_stdin=process_pb2.CloseStdin()))


def _duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
