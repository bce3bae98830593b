"""A strict box over the wire: sessions and files in memory, and commands whose outcome a test writes down.

It refuses what the contract refuses, and an unexpected command fails the test when the server closes.
"""

from __future__ import annotations

import asyncio
import fnmatch
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Never

from portway.clients.box import Box
from portway.rpc.binding import Service
from portway.rpc.call import Call
from portway.rpc.errors import Conflict, InvalidInput, NotFound, Reason, Resource, WrongState
from portway.rpc.identity import Caller, Role
from portway.rpc.serving import serve
from portway.rpc.tokens import FixedTokens, mint_token
from portway.v1 import box_pb2, file_pb2, process_pb2, session_pb2

HOLD = "wait for the test"


@dataclass
class FakeSession:
    """One session: the spec that it was made with, and its files by path."""

    spec: session_pb2.SessionSpec
    files: dict[str, bytes] = field(default_factory=dict)
    workspace_id: str = ""
    processes: list[process_pb2.Process] = field(default_factory=list)


@dataclass
class FakeBox:
    """The state that the servicers share. `will_run` prepares the outcome of a command line, once."""

    sessions: dict[str, FakeSession] = field(default_factory=dict)
    status: box_pb2.GetBoxStatusResponse = field(
        default_factory=lambda: box_pb2.GetBoxStatusResponse(version="fake", enabled=True, available=True)
    )
    session_refusal: str = ""
    ran: list[str] = field(default_factory=list)
    requests: list[process_pb2.ExecOnceRequest] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    running: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    hold_files: bool = False
    file_calls: Counter[str] = field(default_factory=Counter)
    seeds: dict[str, bytes] = field(default_factory=dict)
    held_things: dict[str, list[session_pb2.HeldItem]] = field(default_factory=dict)
    address: str = ""
    token: str = ""
    _outcomes: dict[str, process_pb2.ExecOnceResponse | Exception] = field(default_factory=dict)
    _effects: dict[tuple[str, str], tuple[bytes, process_pb2.ExecOnceResponse]] = field(default_factory=dict)

    def will_run(self, line: str, outcome: process_pb2.ExecOnceResponse | Exception) -> None:
        """An exception is what happens instead of an answer, after the command ran."""
        self._outcomes[line] = outcome

    def seed(self, path: str, content: bytes) -> None:
        """Every session that is made from now on has this file."""
        self.seeds[path] = content

    async def held(self, kind: str) -> None:
        """A call on a file waits for the test, where it wants that: it is done, and its answer is not given."""
        self.file_calls[kind] += 1
        if self.hold_files:
            self.running.set()
            await self.release.wait()

    def forget_sessions(self) -> None:
        """As after the idle time of all of them."""
        self.sessions.clear()
        self._effects.clear()

    def forget_effects(self) -> None:
        """As after a restart: sessions are back, results are lost."""
        self._effects.clear()

    def session(self, session_id: str) -> FakeSession:
        if session_id not in self.sessions:
            raise NotFound.of("session", session_id)
        return self.sessions[session_id]

    async def exec_once(self, request: process_pb2.ExecOnceRequest) -> process_pb2.ExecOnceResponse:
        self.requests.append(request)
        self.session(request.session_id)
        if not request.request_id:
            self.violations.append(f"a command without request_id: {request.command.shell}")
        digest = request.command.SerializeToString(deterministic=True)
        known = self._effects.get((request.session_id, request.request_id))
        if known is not None:
            if known[0] != digest:
                raise Conflict("this request_id belongs to another command")
            answer = process_pb2.ExecOnceResponse()
            answer.CopyFrom(known[1])
            answer.replayed = True
            return answer
        if request.reconcile:
            raise WrongState("no command is known by this request_id", reason=Reason.EFFECT_UNKNOWN)
        return await self._run(request, digest)

    async def _run(self, request: process_pb2.ExecOnceRequest, digest: bytes) -> process_pb2.ExecOnceResponse:
        line = request.command.shell
        if request.command.working_directory == "/nowhere":
            raise InvalidInput.field("command.working_directory", "it is not in the session")
        outcome = self._outcomes.pop(line, None)
        if outcome is None:
            self.violations.append(f"unexpected command: {line}")
            raise WrongState("the fake box was not told about this command")
        self.ran.append(line)
        if isinstance(outcome, Exception):
            raise outcome
        self._effects[(request.session_id, request.request_id)] = (digest, outcome)
        if line == HOLD:
            self.running.set()
            await self.release.wait()
        return outcome


class Sessions:
    def __init__(self, box: FakeBox) -> None:
        self._box = box

    async def CreateSession(
        self, request: session_pb2.CreateSessionRequest, call: Call[Never, Never]
    ) -> session_pb2.CreateSessionResponse:
        if self._box.session_refusal:
            raise WrongState(self._box.session_refusal)
        existed = request.session_id in self._box.sessions
        made = FakeSession(request.spec, dict(self._box.seeds), request.workspace_id)
        known = self._box.sessions.setdefault(request.session_id, made)
        if known.spec != request.spec:
            raise WrongState("a session with this id and another spec exists")
        session = session_pb2.Session(session_id=request.session_id, workspace_id=request.workspace_id)
        return session_pb2.CreateSessionResponse(session=session, existed=existed)

    async def ListSessions(
        self, request: session_pb2.ListSessionsRequest, call: Call[Never, Never]
    ) -> session_pb2.ListSessionsResponse:
        found = [name for name, one in self._box.sessions.items() if one.workspace_id == request.workspace_id]
        return session_pb2.ListSessionsResponse(
            sessions=[session_pb2.Session(session_id=name, workspace_id=request.workspace_id) for name in found]
        )

    async def GetSession(
        self, request: session_pb2.GetSessionRequest, call: Call[Never, Never]
    ) -> session_pb2.GetSessionResponse:
        found = self._box.session(request.session_id)
        if found.workspace_id != request.workspace_id:
            raise NotFound.of("session", request.session_id)
        session = session_pb2.Session(
            session_id=request.session_id,
            workspace_id=request.workspace_id,
            spec=found.spec,
            state=session_pb2.SESSION_STATE_READY,
        )
        return session_pb2.GetSessionResponse(session=session)

    async def ListHeld(
        self, request: session_pb2.ListHeldRequest, call: Call[Never, Never]
    ) -> session_pb2.ListHeldResponse:
        found = self._box.held_things.get(request.session_id)
        if found is None and self._box.session(request.session_id).workspace_id != request.workspace_id:
            raise NotFound.of("session", request.session_id)
        own = session_pb2.HeldItem(kind="session", id=request.session_id)
        return session_pb2.ListHeldResponse(items=[own] * (request.session_id in self._box.sessions) + (found or []))

    async def DeleteSession(
        self, request: session_pb2.DeleteSessionRequest, call: Call[Never, Never]
    ) -> session_pb2.DeleteSessionResponse:
        self._box.session(request.session_id)
        del self._box.sessions[request.session_id]
        return session_pb2.DeleteSessionResponse()


class Processes:
    def __init__(self, box: FakeBox) -> None:
        self._box = box

    async def ExecOnce(
        self, request: process_pb2.ExecOnceRequest, call: Call[Never, Never]
    ) -> process_pb2.ExecOnceResponse:
        return await self._box.exec_once(request)

    async def ListProcesses(
        self, request: process_pb2.ListProcessesRequest, call: Call[Never, Never]
    ) -> process_pb2.ListProcessesResponse:
        return process_pb2.ListProcessesResponse(processes=self._box.session(request.session_id).processes)


class Files:
    def __init__(self, box: FakeBox) -> None:
        self._box = box

    def _content(self, file: file_pb2.FilePath) -> bytes:
        files = self._box.session(file.session_id).files
        if file.path not in files:
            raise NotFound(f"there is no file {file.path!r} in the session", resource=Resource("file", file.path))
        return files[file.path]

    async def ReadFile(self, request: file_pb2.ReadFileRequest, call: Call[None, file_pb2.ReadFileResponse]) -> None:
        data = self._content(request.file)
        await self._box.held("read")
        await call.write(file_pb2.ReadFileResponse(file=file_pb2.FileInfo(path=request.file.path, size=len(data))))
        wanted = data[request.offset :][: request.length or None]
        for at in range(0, len(wanted), 256 * 1024):
            await call.write(file_pb2.ReadFileResponse(data=wanted[at : at + 256 * 1024]))

    async def WriteFile(self, call: Call[file_pb2.WriteFileRequest, None]) -> file_pb2.WriteFileResponse:
        first = await call.read()
        assert first is not None
        files = self._box.session(first.start.file.session_id).files
        data = b""
        while (frame := await call.read()) is not None:
            data += frame.data
        files[first.start.file.path] = data
        await self._box.held("write")
        info = file_pb2.FileInfo(path=first.start.file.path, size=len(data))
        return file_pb2.WriteFileResponse(file=info)

    async def EditFile(self, request: file_pb2.EditFileRequest, call: Call[Never, Never]) -> file_pb2.EditFileResponse:
        text = self._content(request.file).decode()
        count = text.count(request.old_text)
        if count == 0 or (count > 1 and not request.replace_all):
            raise WrongState(f"the text occurs {count} times in {request.file.path!r}")
        changed = text.replace(request.old_text, request.new_text)
        self._box.session(request.file.session_id).files[request.file.path] = changed.encode()
        await self._box.held("edit")
        return file_pb2.EditFileResponse(replaced_count=count)

    async def Glob(self, request: file_pb2.GlobRequest, call: Call[Never, Never]) -> file_pb2.GlobResponse:
        files = self._box.session(request.directory.session_id).files
        found = [path for path in sorted(files) if fnmatch.fnmatch(path, request.pattern)]
        infos = [file_pb2.FileInfo(path=path, size=len(files[path])) for path in found[: request.limit]]
        return file_pb2.GlobResponse(files=infos, truncated=len(found) > request.limit)

    async def Grep(self, request: file_pb2.GrepRequest, call: Call[Never, Never]) -> file_pb2.GrepResponse:
        try:
            wanted = re.compile(request.pattern, re.IGNORECASE if request.ignore_case else 0)
        except re.error as error:
            raise InvalidInput.field("pattern", f"it is no regular expression: {error}") from error
        files = self._box.session(request.root.session_id).files
        found = [
            file_pb2.GrepMatch(path=path, line_number=number, line=line)
            for path, data in sorted(files.items())
            if not request.include or fnmatch.fnmatch(path, request.include)
            for number, line in enumerate(data.decode().splitlines(), 1)
            if wanted.search(line)
        ]
        return file_pb2.GrepResponse(matches=found[: request.limit], truncated=len(found) > request.limit)


class Status:
    def __init__(self, box: FakeBox) -> None:
        self._box = box

    async def GetBoxStatus(
        self, request: box_pb2.GetBoxStatusRequest, call: Call[Never, Never]
    ) -> box_pb2.GetBoxStatusResponse:
        return self._box.status


@asynccontextmanager
async def serve_fake_box(fake: FakeBox, address: str = "127.0.0.1:0") -> AsyncIterator[Box]:
    """Serves the box; gives a client with a box's credential."""
    token = mint_token("service")
    caller = Caller(Role.BOX, "default", token.token_id)
    servicers = {
        session_pb2.DESCRIPTOR.services_by_name["SessionService"]: Sessions(fake),
        process_pb2.DESCRIPTOR.services_by_name["ProcessService"]: Processes(fake),
        file_pb2.DESCRIPTOR.services_by_name["FileService"]: Files(fake),
        box_pb2.DESCRIPTOR.services_by_name["BoxService"]: Status(fake),
    }
    services = [Service(descriptor, servicer) for descriptor, servicer in servicers.items()]
    authenticator = FixedTokens([(token.text, caller)])
    async with (
        serve(services, address=address, authenticator=authenticator, grace=0.1) as server,
        Box(server.address, token=token.text) as client,
    ):
        fake.address, fake.token = server.address, token.text
        yield client
    assert not fake.violations, "the box saw wrong requests: " + "; ".join(fake.violations)
