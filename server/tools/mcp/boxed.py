"""Where a server's program lives in the box: a session, its own or one with others, and a folder of its own there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

from portway.clients.box import Box
from portway.rpc.errors import InvalidInput, NotFound, PortwayError, Reason, WrongState
from portway.rpc.status import errors_by_meaning
from portway.server.tools.mcp.types import McpServer
from portway.v1 import file_pb2, process_pb2, session_pb2

INSTALL_SECONDS = 120
_CALL_SECONDS = 30.0
_TAIL = 400
_OUTPUT_BYTES = 4_000
_MARK = ".installed"


def session_id_of(server: McpServer) -> str:
    """Servers of one `box_session` share a session; each other has its own."""
    shared = server.spec.box_session
    return f"mcp-shared:{shared}" if shared else f"mcp:{server.server_id}"


def folder_of(server: McpServer) -> str:
    return f"/workspace/.mcp/{server.server_id}"


class BoxedHome:
    """The place of one server. `mates` are the servers of its session that are not disabled."""

    def __init__(self, box: Box, server: McpServer, mates: Sequence[McpServer]) -> None:
        self._box = box
        self._server = server
        others = [one for one in mates if one.server_id != server.server_id]
        self._mates = sorted((server, *others), key=lambda one: one.server_id)
        self.session_id = session_id_of(server)
        self.folder = folder_of(server)

    async def make(self) -> None:
        """The session and the folder. Raises WrongState, InvalidInput and the like, Unavailable."""
        try:
            await self._create()
        except WrongState as error:
            if not error.fields:
                raise
            # It was made for another configuration: what is in it is made again as well.
            await self._delete_session()
            await self._create()
        made = await self._run(("/bin/mkdir", "-p", self.folder), "/workspace", {}, _CALL_SECONDS)
        if made.exit.exit_code != 0:
            raise WrongState(f"its folder {self.folder} could not be made: {_end_of(made)}")

    async def install(self, env: Mapping[str, str]) -> None:
        """What its program needs, once for each configuration. Raises WrongState with how it failed."""
        command = self._server.spec.install
        if not command or await self._marked() == self._digest:
            return
        result = await self._run(command, self.folder, env, INSTALL_SECONDS)
        end = result.exit
        if end.status == process_pb2.EXIT_STATUS_TIMED_OUT:
            raise self._not_installed(f"it took more than {INSTALL_SECONDS} s", result)
        if end.status == process_pb2.EXIT_STATUS_OUT_OF_MEMORY:
            raise self._not_installed("it ran out of the session's memory", result)
        if end.status != process_pb2.EXIT_STATUS_COMPLETED:
            raise self._not_installed("it was killed", result)
        if end.exit_code != 0:
            raise self._not_installed(f"exit code {end.exit_code}", result)
        await self._mark()

    async def leave(self) -> None:
        """Removes what the server had there; its program is stopped. A session that nobody shares goes whole."""
        with suppress(PortwayError):
            if len(self._mates) == 1:
                return await self._delete_session()
            request = file_pb2.RemoveRequest(file=self._file(self.folder), recursive=True)
            with errors_by_meaning():
                await self._box.files.Remove(request, timeout=_CALL_SECONDS)

    async def _create(self) -> None:
        spec = session_pb2.SessionSpec(profile=self._profile(), extra_mounts=self._mounts(), persistent=True)
        request = session_pb2.CreateSessionRequest(
            session_id=self.session_id, workspace_id=self._server.workspace_id, spec=spec
        )
        with errors_by_meaning():
            await self._box.sessions.CreateSession(request, timeout=_CALL_SECONDS)

    async def _delete_session(self) -> None:
        request = session_pb2.DeleteSessionRequest(session_id=self.session_id, workspace_id=self._server.workspace_id)
        with suppress(NotFound), errors_by_meaning():
            await self._box.sessions.DeleteSession(request, timeout=_CALL_SECONDS)

    def _profile(self) -> str:
        profiles = {one.spec.box_profile for one in self._mates}
        if len(profiles) > 1:
            raise WrongState(
                f"the servers {', '.join(one.server_id for one in self._mates)} share a session and name different box "
                "profiles; give them one, or sessions of their own"
            )
        return self._server.spec.box_profile

    def _mounts(self) -> list[session_pb2.Mount]:
        """Of all mates, so that each of them finds the session as it needs it."""
        found: dict[str, session_pb2.Mount] = {}
        for mate in self._mates:
            for one in mate.spec.mounts:
                mode = session_pb2.MOUNT_MODE_READ_WRITE if one.writable else session_pb2.MOUNT_MODE_READ_ONLY
                mount = session_pb2.Mount(source=one.source, target=one.target, mode=mode)
                if found.setdefault(one.target, mount) != mount:
                    raise WrongState(
                        f"two servers of the session {self.session_id} mount different folders at {one.target}"
                    )
        return [found[target] for target in sorted(found)]

    async def _run(
        self, argv: Sequence[str], directory: str, env: Mapping[str, str], seconds: float
    ) -> process_pb2.ExecOnceResponse:
        command = process_pb2.Command(argv=process_pb2.Argv(args=argv), working_directory=directory, env=env)
        command.timeout.FromSeconds(int(seconds))
        request = process_pb2.ExecOnceRequest(
            session_id=self.session_id,
            workspace_id=self._server.workspace_id,
            command=command,
            output_limit=_OUTPUT_BYTES,
        )
        with errors_by_meaning():
            return await self._box.processes.ExecOnce(request, timeout=seconds + _CALL_SECONDS)

    @property
    def _digest(self) -> str:
        spec = self._server.spec
        said = [spec.install, sorted(spec.env.items()), [[one.source, one.target] for one in spec.mounts]]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    async def _marked(self) -> str:
        request = file_pb2.ReadFileRequest(file=self._file(f"{self.folder}/{_MARK}"), length=len(self._digest))
        found = b""
        with suppress(NotFound, InvalidInput, WrongState), errors_by_meaning():
            async for piece in self._box.files.ReadFile(request, timeout=_CALL_SECONDS):
                found += piece.data
        return found.decode(errors="replace")

    async def _mark(self) -> None:
        start = file_pb2.WriteFileStart(file=self._file(f"{self.folder}/{_MARK}"))
        frames = [
            file_pb2.WriteFileRequest(start=start),
            file_pb2.WriteFileRequest(data=self._digest.encode()),
        ]
        with errors_by_meaning():
            await self._box.files.WriteFile(iter(frames), timeout=_CALL_SECONDS)

    def _file(self, path: str) -> file_pb2.FilePath:
        return file_pb2.FilePath(session_id=self.session_id, workspace_id=self._server.workspace_id, path=path)

    def _not_installed(self, how: str, result: process_pb2.ExecOnceResponse) -> WrongState:
        said = _end_of(result)
        text = f"what it needs could not be installed by {self._server.spec.install[0]!r}: {how}"
        return WrongState(text + (f"; it last said: {said}" if said else ""), reason=Reason.TOOL_UNAVAILABLE)


def _end_of(result: process_pb2.ExecOnceResponse) -> str:
    """The end of what a command said, in one line."""
    said = (result.stderr or result.stdout).decode(errors="replace")
    return " ".join(said.split())[-_TAIL:]
