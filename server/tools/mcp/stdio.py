"""A program in the box whose standard input and output are a stream of lines.

The stream survives a lost connection to the box: both directions are resumed at their byte offsets. It ends with the
program, or where the box no longer has what comes next.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from portway.clients.box import Box
from portway.rpc.client_stream import send
from portway.rpc.errors import OutOfRange, PayloadTooLarge, PortwayError, Unavailable, WrongState
from portway.rpc.status import errors_by_meaning
from portway.server.tools.mcp.boxed import BoxedHome
from portway.server.tools.mcp.types import McpServer, Opened
from portway.v1 import process_pb2

MAX_LINE_BYTES = 8 * 1024 * 1024
MAX_UNTAKEN_BYTES = 4 * 1024 * 1024
STDERR_KEPT = 2_000
_PIECE = 256 * 1024
_CALL_SECONDS = 30.0
_RESUME_TRIES = 8
_RESUME_PAUSE = 0.25
_ALIVE = (
    process_pb2.PROCESS_STATE_RUNNING,
    process_pb2.PROCESS_STATE_RESTARTING,
    process_pb2.PROCESS_STATE_STOPPING,
)


@dataclass(frozen=True, slots=True)
class HostMark:
    """Whose processes these are. A server has one at a time, so whatever else of it is there is a leftover."""

    name: str

    def prefix(self, server: McpServer) -> str:
        kept = "".join(one if one.isascii() and one.isalnum() else "-" for one in self.name)[:24]
        return f"mcp-{kept or 'host'}-{server.server_id}-r"

    def new_id(self, server: McpServer) -> str:
        """With the revision, so that a program of an older configuration is known as one."""
        return f"{self.prefix(server)}{server.revision}-{secrets.token_hex(6)}"

    def is_current(self, process_id: str, server: McpServer) -> bool:
        return process_id.startswith(f"{self.prefix(server)}{server.revision}-")

    def is_of(self, process_id: str, server: McpServer) -> bool:
        return process_id.startswith(self.prefix(server))


class BoxProgram:
    """One run of a server's command. `start` once, then `lines` and `write`; `stop` at the end."""

    def __init__(self, box: Box, server: McpServer, opened: Opened, mark: HostMark, mates: Sequence[McpServer]) -> None:
        self._box = box
        self._server = server
        self._opened = opened
        self._mark = mark
        self._home = BoxedHome(box, server, mates)
        self._session_id = self._home.session_id
        self._process_id = mark.new_id(server)
        self._taken = 0
        self._errors_taken = 0
        self._untaken = bytearray()
        self._untaken_at = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.last_words = ""
        """The end of what it wrote to its standard error."""

    async def start(self) -> None:
        """Makes the session, installs what is needed and starts the program, or finds the one that a host before this
        one had started. Raises WrongState, InvalidInput and the like, Unavailable."""
        with errors_by_meaning():
            await self._home.make()
            if await self._adopt():
                return
            await self._home.install({**self._server.spec.env, **self._opened.env})
            await self._box.processes.StartProcess(self._start_request(), timeout=_CALL_SECONDS)

    async def _adopt(self) -> bool:
        """Takes up the newest living program of this configuration and stops every other one of the server."""
        found = []
        for process in await self._box.list_processes(self._session_id, self._server.workspace_id):
            if self._mark.is_of(process.process_id, self._server) and process.state in _ALIVE:
                found.append(process)
        current = [
            one
            for one in found
            if self._mark.is_current(one.process_id, self._server) and one.state == process_pb2.PROCESS_STATE_RUNNING
        ]
        kept = max(current, key=lambda one: one.start_time.ToNanoseconds(), default=None)
        for process in found:
            if process is not kept:
                await self._stop(process.process_id)
        if kept is None:
            return False
        self._process_id = kept.process_id
        self._taken, self._errors_taken = kept.stdout_bytes, kept.stderr_bytes
        # Told with the first frame of the attachment.
        self._untaken_at = -1
        # Ends the line in which the host before this one may have been interrupted.
        await self.write(b"")
        return True

    async def lines(self) -> AsyncIterator[bytes]:
        """What it writes, line by line. Raises WrongState when it has ended, PayloadTooLarge, Unavailable."""
        rest = bytearray()
        async for piece in self._output():
            rest += piece
            while (end := rest.find(b"\n")) >= 0:
                line = bytes(rest[:end]).strip()
                del rest[: end + 1]
                if line:
                    yield line
            if len(rest) > MAX_LINE_BYTES:
                raise PayloadTooLarge(f"it sent a message of more than {MAX_LINE_BYTES} bytes")

    async def write(self, line: bytes) -> None:
        """One more line for it; waits while it reads too slowly."""
        await self._room.wait()
        self._untaken += line + b"\n"
        if len(self._untaken) > MAX_UNTAKEN_BYTES:
            self._room.clear()
        self._changed.set()

    async def stop(self) -> None:
        """Ends it, if the box can be reached."""
        with suppress(PortwayError):
            await self._stop(self._process_id)

    async def _stop(self, process_id: str) -> None:
        request = process_pb2.StopProcessRequest(
            session_id=self._session_id, workspace_id=self._server.workspace_id, process_id=process_id
        )
        request.grace.seconds = 1
        with errors_by_meaning():
            await self._box.processes.StopProcess(request, timeout=_CALL_SECONDS)

    def _start_request(self) -> process_pb2.StartProcessRequest:
        spec = self._server.spec
        command = process_pb2.Command(
            argv=process_pb2.Argv(args=spec.command),
            env={**spec.env, **self._opened.env},
            working_directory=self._home.folder,
        )
        return process_pb2.StartProcessRequest(
            session_id=self._session_id,
            workspace_id=self._server.workspace_id,
            process_id=self._process_id,
            command=command,
            restart_policy=process_pb2.RESTART_POLICY_NEVER,
            hold_output=True,
        )

    async def _output(self) -> AsyncIterator[bytes]:
        tries = 0
        while True:
            try:
                async for piece in self._attached():
                    tries = 0
                    yield piece
                raise self._ended("ended without saying how")
            except OutOfRange:
                raise self._ended("was lost with the box") from None
            except Unavailable:
                tries += 1
                if tries > _RESUME_TRIES:
                    raise
                await asyncio.sleep(_RESUME_PAUSE * tries)

    async def _attached(self) -> AsyncIterator[bytes]:
        """One attachment. Raises Unavailable where it may be resumed, WrongState at the end of the program."""
        start = process_pb2.AttachStart(
            session_id=self._session_id,
            workspace_id=self._server.workspace_id,
            process_id=self._process_id,
            stdout_offset=self._taken,
            stderr_offset=self._errors_taken,
            hold_output=True,
        )
        with errors_by_meaning():
            call = self._box.processes.AttachProcess()
            await send(call, process_pb2.AttachProcessRequest(attach=start))
            feeding: asyncio.Task[None] | None = None
            try:
                async for frame in call:
                    self._acknowledge(frame.stdin_taken)
                    if feeding is None:
                        feeding = asyncio.create_task(self._feed(call))
                    match frame.WhichOneof("kind"):
                        case "stdout":
                            self._taken = frame.offset + len(frame.stdout)
                            yield frame.stdout
                        case "stderr":
                            self._errors_taken = frame.offset + len(frame.stderr)
                            self.last_words = (self.last_words + frame.stderr.decode(errors="replace"))[-STDERR_KEPT:]
                        case "output_gap":
                            # Written while the connection to the box was away, and more than it keeps.
                            raise self._ended("wrote more than the box keeps, and a part is lost")
                        case "exit":
                            raise self._ended(_how(frame.exit))
            finally:
                if feeding is not None:
                    feeding.cancel()
                    await asyncio.gather(feeding, return_exceptions=True)
                call.cancel()

    async def _feed(self, call: object) -> None:
        """From what the box says it has taken; after that, what comes."""
        at = self._untaken_at
        while True:
            self._changed.clear()
            while (piece := bytes(self._untaken[at - self._untaken_at :][:_PIECE])) != b"":
                if not await send(call, process_pb2.AttachProcessRequest(stdin=piece, stdin_offset=at)):
                    return
                at += len(piece)
            await self._changed.wait()
            at = max(at, self._untaken_at)

    def _acknowledge(self, taken: int) -> None:
        if self._untaken_at < 0:
            self._untaken_at = taken
        gone = min(taken - self._untaken_at, len(self._untaken))
        if gone > 0:
            del self._untaken[:gone]
            self._untaken_at += gone
            if len(self._untaken) <= MAX_UNTAKEN_BYTES:
                self._room.set()

    def _ended(self, how: str) -> WrongState:
        said = self.last_words.strip().splitlines()
        return WrongState(f"the program {how}" + (f"; it last said: {said[-1][:300]}" if said else ""))


def _how(end: process_pb2.Exit) -> str:
    if end.HasField("exit_code"):
        return f"ended with exit code {end.exit_code}"
    if end.HasField("signal"):
        return f"was ended by signal {end.signal}"
    return "was lost"
