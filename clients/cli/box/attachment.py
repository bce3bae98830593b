"""A terminal joined to a process in a session; a lost connection is made again, and nothing typed or said is lost."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from portway.clients.cli.box.endings import LOST, exit_code
from portway.clients.cli.box.keys import Keys, Wish
from portway.clients.cli.box.reaching import ReachedBox
from portway.clients.cli.box.standard_input import InputReader
from portway.clients.cli.box.terminal import Terminal
from portway.rpc.client_stream import send
from portway.rpc.errors import DeadlineExceeded, NotAuthenticated, NotFound, Unavailable
from portway.rpc.status import errors_by_meaning
from portway.v1 import process_pb2

_Request = process_pb2.AttachProcessRequest
COME_BACK_SECONDS = 120.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 3.0
_MOST_UNCONFIRMED = 256 * 1024
_GONE = (Unavailable, DeadlineExceeded, NotAuthenticated)


class Left(Exception):
    """The person left and the process goes on; or, with `hung_up`, the terminal is gone."""

    def __init__(self, *, hung_up: bool) -> None:
        super().__init__()
        self.hung_up = hung_up


class Attachment:
    """One process and one terminal. `run` returns the exit code."""

    def __init__(self, found: ReachedBox, terminal: Terminal, session_id: str, process_id: str) -> None:
        self._found = found
        self._terminal = terminal
        self._session_id, self._process_id = session_id, process_id
        self._offset = 0
        self._keys = Keys()
        self._call: Any = None
        # Input that the process is not known to have, and where in its input that begins; only while it is ours alone.
        self._unconfirmed = bytearray()
        self._confirmed = 0
        self._alone = True
        self._room = asyncio.Event()
        self._telling: set[asyncio.Future[bool]] = set()
        # A call takes one frame at a time; of two at once, one would be lost.
        self._turn = asyncio.Lock()

    def resize(self) -> None:
        """Tells the size of the terminal as it is now; from a handler of signals, which cannot wait."""
        if self._call is not None:
            telling = asyncio.ensure_future(self._send(self._call, _Request(resize=self._terminal.size())))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    async def run(self) -> int:
        """Raises `Left`, and by meaning where the process cannot be reached at all."""
        with InputReader(self._terminal.input) as typed:
            typing: asyncio.Task[None] | None = None
            try:
                while True:
                    await self._attach()
                    if typing is None:
                        typing = asyncio.ensure_future(self._type(typed))
                    ended = await self._until(typing, self._show())
                    if ended is not None:
                        return ended
                    lost = await self._until(typing, self._come_back())
                    if lost is not None:
                        return lost
            finally:
                if typing is not None:
                    typing.cancel()
                    await asyncio.wait([typing])
                if self._call is not None:
                    self._call.cancel()

    @staticmethod
    async def _until(typing: "asyncio.Task[None]", work: Awaitable[int | None]) -> int | None:
        """Does `work` unless the person leaves first."""
        working = asyncio.ensure_future(work)
        try:
            await asyncio.wait([working, typing], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                typing.result()
            return await working
        finally:
            working.cancel()
            await asyncio.wait([working])

    async def _attach(self) -> None:
        start = process_pb2.AttachStart(
            session_id=self._session_id,
            workspace_id=self._found.workspace_id,
            process_id=self._process_id,
            stdout_offset=self._offset,
            stderr_offset=-1,
        )
        call = self._found.box.processes.AttachProcess()
        with errors_by_meaning():
            await send(call, _Request(attach=start))
            first = await call.read()
        if not isinstance(first, process_pb2.AttachProcessResponse) or not first.HasField("attached"):
            raise Unavailable("the box ended the connection before it began")
        self._alone = first.attached.attached_count <= 1 and self._alone
        self._confirm(first.stdin_taken)
        if self._alone and self._unconfirmed:
            await self._send(call, _Request(stdin=bytes(self._unconfirmed), stdin_offset=self._confirmed))
        await self._send(call, _Request(resize=self._terminal.size()))
        self._call = call

    async def _send(self, call: Any, request: process_pb2.AttachProcessRequest) -> bool:
        async with self._turn:
            return await send(call, request)

    async def _show(self) -> int | None:
        """What it says, until its end; None where the connection was lost."""
        try:
            with errors_by_meaning():
                while True:
                    frame = await self._call.read()
                    if not isinstance(frame, process_pb2.AttachProcessResponse):
                        return None
                    self._confirm(frame.stdin_taken)
                    if frame.HasField("exit"):
                        return exit_code(frame.exit)
                    data = frame.stdout or frame.stderr
                    self._terminal.write(data)
                    if frame.HasField("output_gap"):
                        self._offset = frame.offset + frame.output_gap.missing_bytes
                    elif frame.stdout:
                        self._offset = frame.offset + len(frame.stdout)
        except _GONE:
            return None

    async def _come_back(self) -> int | None:
        """Dials until there is a box again that knows the process. Raises what the last try said; returns the exit code
        of a process that was lost meanwhile."""
        self._call = None
        self._terminal.say("the connection is lost and made again; `~.` after Enter leaves")
        until, pause = time.monotonic() + COME_BACK_SECONDS, _FIRST_PAUSE
        while True:
            try:
                await self._found.again()
                request = process_pb2.GetProcessRequest(
                    session_id=self._session_id, workspace_id=self._found.workspace_id, process_id=self._process_id
                )
                with errors_by_meaning():
                    answer = await self._found.box.processes.GetProcess(request, timeout=5.0)
                return self._found_again(answer.process)
            except (Unavailable, DeadlineExceeded):
                if time.monotonic() > until:
                    raise
            except NotFound:
                self._terminal.say("its session is gone; what became of the process is not known")
                return LOST
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _found_again(self, process: process_pb2.Process) -> int | None:
        if process.state == process_pb2.PROCESS_STATE_LOST:
            self._terminal.say("the box was started anew; what became of the process is not known")
            return LOST
        if process.stdout_bytes < self._offset:
            # It was started anew as well, and knows nothing of what was typed before.
            self._offset = 0
            self._unconfirmed.clear()
            self._confirmed = 0
        return None

    async def _type(self, typed: InputReader) -> None:
        """Raises `Left` when the person leaves, also by closing the terminal."""
        while piece := await typed.next():
            inside, wish = self._keys.take(piece)
            await self._give(inside)
            if wish is Wish.LEAVE:
                raise Left(hung_up=False)
        raise Left(hung_up=True)

    async def _give(self, data: bytes) -> None:
        if not data:
            return
        while self._alone and len(self._unconfirmed) > _MOST_UNCONFIRMED:
            # What was pasted waits here until the process has taken what came before.
            self._room.clear()
            await self._room.wait()
        offset = self._confirmed + len(self._unconfirmed)
        if self._alone:
            self._unconfirmed += data
        if self._call is not None:
            await self._send(
                self._call, _Request(stdin=data, stdin_offset=offset) if self._alone else _Request(stdin=data)
            )

    def _confirm(self, taken: int) -> None:
        fresh = taken - self._confirmed
        if fresh > len(self._unconfirmed):
            # Others type too, or did before us: what is whose cannot be told any more.
            self._unconfirmed.clear()
        else:
            del self._unconfirmed[: max(0, fresh)]
        self._confirmed = max(taken, self._confirmed)
        self._room.set()
