"""The box over gRPC, as the native tools need it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration

from portway.clients.box import Box
from portway.clients.sockets.handling import Protocols
from portway.clients.sockets.serve import ServedSocket
from portway.rpc.errors import DeadlineExceeded, InternalError, NotFound, PortwayError, Reason, Unavailable, WrongState
from portway.rpc.status import errors_by_meaning
from portway.server.tools.box import (
    Command,
    CommandResult,
    Ending,
    FileKind,
    FileRange,
    FoundFile,
    FoundLine,
    Search,
    ShownSkill,
    SkillsOfSessions,
)
from portway.server.tools.box_skills import BoxSkills, is_about_skills, messages_of, shown_of
from portway.server.tools.types import BoxSession
from portway.v1 import file_pb2, process_pb2, process_pb2_grpc, session_pb2

# Bytes of each output of a command that are kept; the box cuts out the middle.
OUTPUT_LIMIT = 16_000

_CALL_SECONDS = 60.0
# How long a box that is being started anew is waited for.
_AWAY_SECONDS = 10.0
# What a command's call may take beyond the command itself: making the session, killing what ignores its signal.
_COMMAND_MARGIN = 30.0
_WRITE_FRAME = 256 * 1024
_KINDS = {
    file_pb2.FILE_TYPE_FILE: FileKind.FILE,
    file_pb2.FILE_TYPE_DIRECTORY: FileKind.FOLDER,
    file_pb2.FILE_TYPE_LINK: FileKind.LINK,
}
_MAX_SESSIONS = 10_000

_NETWORK = {
    "": session_pb2.NETWORK_MODE_UNSPECIFIED,
    "off": session_pb2.NETWORK_MODE_OFF,
    "on": session_pb2.NETWORK_MODE_ON,
    "allow_list": session_pb2.NETWORK_MODE_ALLOW_LIST,
}
_ENDINGS = {
    process_pb2.EXIT_STATUS_COMPLETED: Ending.COMPLETED,
    process_pb2.EXIT_STATUS_TIMED_OUT: Ending.TIMED_OUT,
    process_pb2.EXIT_STATUS_KILLED: Ending.KILLED,
    process_pb2.EXIT_STATUS_OUT_OF_MEMORY: Ending.OUT_OF_MEMORY,
}

T = TypeVar("T")


class SessionQuota(Protocol):
    """How many sandboxes a workspace may have."""

    def session_limit(self, workspace_id: str) -> int:
        """0 for no limit."""

    def admit_session(self, workspace_id: str, existing: int) -> None:
        """Raises LimitExceeded (QUOTA_EXCEEDED)."""


class BoxClient:
    """Implements `BoxTools`. It remembers which sessions it has made, so that a call is one call of the box."""

    def __init__(self, box: Box, quota: SessionQuota | None = None, skills: SkillsOfSessions | None = None) -> None:
        self._box = box
        self._skills = BoxSkills(box, skills)
        self._quota = quota
        self._made: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def run(self, session: BoxSession, command: Command, effect_id: str) -> CommandResult:
        await self._reach()
        request = _exec_request(session, command, effect_id)
        answer, begun = await self._in_session(session, lambda: self._exec(request, command))
        return _command_result(answer, begun)

    async def find_run(self, session: BoxSession, command: Command, effect_id: str) -> CommandResult:
        request = _exec_request(session, command, effect_id)
        request.reconcile = True
        await self._reach()
        try:
            return _command_result(await self._exec(request, command), begun=False)
        except NotFound as error:
            raise WrongState(
                f"the sandbox {session.session_id!r} is gone, and with it the result of a command that was begun",
                reason=Reason.EFFECT_UNKNOWN,
            ) from error

    @property
    def processes(self) -> process_pb2_grpc.ProcessServiceAsyncStub:
        """For who drives commands frame by frame."""
        return self._box.processes

    def serve_socket(
        self, session: BoxSession, name: str, protocols: Protocols, port: int, generation: int
    ) -> AbstractAsyncContextManager[ServedSocket]:
        """Offers a socket in the session while the block runs; see `Box.serve_socket`."""
        return self._box.serve_socket(
            session.session_id,
            name,
            protocols,
            workspace_id=session.workspace_id,
            port=port,
            generation=generation,
        )

    async def ensure(self, session: BoxSession) -> None:
        """Makes the session, or finds that it exists. Errors: `WrongState` TOOL_UNAVAILABLE."""
        await self._make(session)

    async def _reach(self) -> None:
        """What is sent while nobody is there has surely not happened; an error after this may mean that it has."""
        if not await self._box.reachable(_AWAY_SECONDS):
            raise WrongState(
                "the box cannot be reached, so nothing was run; see `portway status`", reason=Reason.TOOL_UNAVAILABLE
            )

    async def _exec(self, request: process_pb2.ExecOnceRequest, command: Command) -> process_pb2.ExecOnceResponse:
        with errors_by_meaning():
            return await self._box.processes.ExecOnce(request, timeout=command.timeout_seconds + _COMMAND_MARGIN)

    async def read(self, session: BoxSession, path: str, length: int) -> FileRange:
        request = file_pb2.ReadFileRequest(file=_file(session, path), length=length)

        async def ask() -> FileRange:
            size, data = 0, bytearray()
            with errors_by_meaning():
                async for piece in self._box.files.ReadFile(request, timeout=_CALL_SECONDS):
                    size = piece.file.size if piece.HasField("file") else size
                    data += piece.data
            return FileRange(bytes(data), size)

        return (await self._in_session(session, ask))[0]

    async def write(self, session: BoxSession, path: str, data: bytes, executable: bool = False) -> int:
        async def frames() -> AsyncIterator[file_pb2.WriteFileRequest]:
            mode = 0o755 if executable else 0
            start = file_pb2.WriteFileStart(file=_file(session, path), make_parents=True, mode=mode)
            yield file_pb2.WriteFileRequest(start=start)
            for at in range(0, len(data), _WRITE_FRAME):
                yield file_pb2.WriteFileRequest(data=data[at : at + _WRITE_FRAME])

        async def ask() -> int:
            with errors_by_meaning():
                answer = await self._box.files.WriteFile(frames(), timeout=_CALL_SECONDS)
            return answer.file.size

        return (await self._in_session(session, ask))[0]

    async def edit(self, session: BoxSession, path: str, old: str, new: str, everywhere: bool) -> int:
        request = file_pb2.EditFileRequest(
            file=_file(session, path), old_text=old, new_text=new, replace_all=everywhere
        )

        async def ask() -> int:
            with errors_by_meaning():
                answer = await self._box.files.EditFile(request, timeout=_CALL_SECONDS)
            return answer.replaced_count

        return (await self._in_session(session, ask))[0]

    async def glob(self, session: BoxSession, search: Search) -> tuple[tuple[FoundFile, ...], bool]:
        request = file_pb2.GlobRequest(
            directory=_file(session, search.place), pattern=search.pattern, limit=search.limit
        )

        async def ask() -> file_pb2.GlobResponse:
            with errors_by_meaning():
                return await self._box.files.Glob(request, timeout=_CALL_SECONDS)

        answer = (await self._in_session(session, ask))[0]
        return tuple(_found(one) for one in answer.files), answer.truncated

    async def grep(self, session: BoxSession, search: Search) -> tuple[tuple[FoundLine, ...], bool]:
        request = file_pb2.GrepRequest(
            root=_file(session, search.place),
            pattern=search.pattern,
            include=search.only,
            ignore_case=search.ignore_case,
            limit=search.limit,
        )

        async def ask() -> file_pb2.GrepResponse:
            with errors_by_meaning():
                return await self._box.files.Grep(request, timeout=_CALL_SECONDS)

        answer = (await self._in_session(session, ask))[0]
        return tuple(FoundLine(one.path, one.line_number, one.line) for one in answer.matches), answer.truncated

    async def _in_session(self, session: BoxSession, ask: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """What the box answers, and whether a session that was here before had to be made anew for it.

        Where the box does not say what was not found, making the session again tells a session from a file.
        """
        key = (session.workspace_id, session.session_id)
        if key in self._made:
            await self._show(session)
        else:
            await self._make(session)
        self._made.move_to_end(key)
        try:
            return await ask(), False
        except NotFound as error:
            another_thing = error.resource is not None and error.resource.type != "session"
            if another_thing or await self._make(session):
                raise
        return await ask(), True

    async def _make(self, session: BoxSession) -> bool:
        """Makes the session, or finds that it exists (then true). Raises LimitExceeded (QUOTA_EXCEEDED)."""
        await self._admit(session)
        network = session_pb2.NetworkPolicy(mode=_NETWORK[session.network], allow=session.network_allow)
        spec = session_pb2.SessionSpec(profile=session.profile, image=session.image, network=network)
        wanted = await self._wanted(session)
        spec.skills.extend(messages_of(wanted))
        for source, target, writable in session.mounts:
            mode = session_pb2.MOUNT_MODE_READ_WRITE if writable else session_pb2.MOUNT_MODE_READ_ONLY
            spec.extra_mounts.append(session_pb2.Mount(source=source, target=target, mode=mode))
        if session.read_only:
            spec.read_only_root = True
        request = session_pb2.CreateSessionRequest(
            session_id=session.session_id, workspace_id=session.workspace_id, spec=spec
        )
        try:
            answer = await self._create(request)
            self._skills.note(session, shown_of(answer.session.spec.skills))
        except (WrongState, Unavailable, DeadlineExceeded) as error:
            # Nothing that a model asked for: the box cannot give this agent a session at all, and so nothing was run.
            raise WrongState(error.message, reason=Reason.TOOL_UNAVAILABLE, fields=error.fields) from error
        self._made[(session.workspace_id, session.session_id)] = None
        if len(self._made) > _MAX_SESSIONS:
            self._made.popitem(last=False)
        await self._show(session)
        return answer.existed

    async def _wanted(self, session: BoxSession) -> tuple[ShownSkill, ...]:
        try:
            return await self._skills.wanted(session)
        except PortwayError as error:
            raise _not_shown(error) from error

    async def _show(self, session: BoxSession) -> None:
        """Before a call: what its conversation activated, or an operator changed, is there."""
        try:
            await self._skills.show(session)
        except NotFound:
            # The session is gone; the call finds out, and makes it again.
            self._skills.forget(session)
        except PortwayError as error:
            raise _not_shown(error) from error

    async def show_skills(self, session: BoxSession) -> None:
        await self._in_session(session, _nothing)

    async def prepare_skill(self, session: BoxSession, name: str) -> str:
        return (await self._in_session(session, lambda: self._skills.prepare(session, name)))[0]

    async def _admit(self, session: BoxSession) -> None:
        limit = self._quota.session_limit(session.workspace_id) if self._quota else 0
        if self._quota is None or not limit:
            return
        await self._reach()
        others, token = 0, ""
        while others < limit:
            request = session_pb2.ListSessionsRequest(
                workspace_id=session.workspace_id, page_size=200, page_token=token
            )
            with errors_by_meaning():
                page = await self._box.sessions.ListSessions(request, timeout=_CALL_SECONDS)
            if any(one.session_id == session.session_id for one in page.sessions):
                return
            others += len(page.sessions)
            token = page.next_page_token
            if not token:
                break
        self._quota.admit_session(session.workspace_id, others)

    async def delete_sessions(self, workspace_id: str) -> int:
        """Every sandbox of a workspace, with what is in it; answers how many. Raises Unavailable."""
        if not await self._box.reachable(_AWAY_SECONDS):
            raise Unavailable("the box cannot be reached, so its sandboxes are still there; see `portway status`")
        count = 0
        request = session_pb2.ListSessionsRequest(workspace_id=workspace_id, page_size=200)
        with errors_by_meaning():
            while page := (await self._box.sessions.ListSessions(request, timeout=_CALL_SECONDS)).sessions:
                for one in page:
                    named = session_pb2.DeleteSessionRequest(session_id=one.session_id, workspace_id=workspace_id)
                    await self._box.sessions.DeleteSession(named, timeout=_CALL_SECONDS)
                    self._made.pop((workspace_id, one.session_id), None)
                count += len(page)
        return count

    async def _create(self, request: session_pb2.CreateSessionRequest) -> session_pb2.CreateSessionResponse:
        """Asking again for the same session does no harm, so a box that goes away meanwhile is waited for.

        One that is there with other skills is taken as it is: they are changed afterwards.
        """
        try:
            return await self._create_once(request)
        except WrongState as error:
            if not is_about_skills(error):
                raise
            del request.spec.skills[:]
            return await self._create_once(request)

    async def _create_once(self, request: session_pb2.CreateSessionRequest) -> session_pb2.CreateSessionResponse:
        try:
            with errors_by_meaning():
                return await self._box.sessions.CreateSession(request, timeout=_CALL_SECONDS)
        except Unavailable:
            await self._reach()
        with errors_by_meaning():
            return await self._box.sessions.CreateSession(request, timeout=_CALL_SECONDS)


async def _nothing() -> None:
    """The session is there and shows what it is to show: that was all."""


def _not_shown(error: PortwayError) -> WrongState:
    """Before anything was run: so nothing has happened that a second try could do twice."""
    text = f"the agent's skills cannot be shown in its sandbox, so nothing was run: {error.message}"
    return WrongState(text, reason=Reason.TOOL_UNAVAILABLE)


def _found(file: file_pb2.FileInfo) -> FoundFile:
    kind = _KINDS.get(file.type, FileKind.OTHER)
    return FoundFile(file.path, file.size, kind, bool(file.mode & 0o111))


def _file(session: BoxSession, path: str) -> file_pb2.FilePath:
    return file_pb2.FilePath(session_id=session.session_id, workspace_id=session.workspace_id, path=path)


def _exec_request(session: BoxSession, command: Command, effect_id: str) -> process_pb2.ExecOnceRequest:
    timeout = Duration()
    timeout.FromMicroseconds(round(command.timeout_seconds * 1e6))
    return process_pb2.ExecOnceRequest(
        session_id=session.session_id,
        workspace_id=session.workspace_id,
        command=process_pb2.Command(shell=command.line, working_directory=command.working_directory, timeout=timeout),
        request_id=effect_id,
        output_limit=OUTPUT_LIMIT,
    )


def _command_result(answer: process_pb2.ExecOnceResponse, begun: bool) -> CommandResult:
    end = answer.exit
    ending = _ENDINGS.get(end.status)
    if ending is None:
        raise InternalError("the box did not say how the command ended; see its log and its version")
    return CommandResult(
        ending,
        end.exit_code if end.HasField("exit_code") else None,
        end.signal if end.HasField("signal") else None,
        answer.stdout,
        answer.stderr,
        answer.stdout_truncated_bytes,
        answer.stderr_truncated_bytes,
        end.duration.ToMicroseconds() / 1e6,
        answer.replayed,
        begun,
    )
