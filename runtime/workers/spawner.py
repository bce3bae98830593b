"""Starts plugin processes through the fork server, and hears of their ends. Starting is all it does."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from portway.rpc.errors import Reason, Unavailable
from portway.runtime.workers.messages import (
    MAX_MESSAGE,
    Exited,
    Ready,
    Request,
    Signal,
    Start,
    Started,
    pack,
    unpack_report,
)

# What the fork server needs of this process's environment. Plugins see it in /proc, so nothing secret is among it.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_SEND_RETRIES = 200
_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How a process ended: a code, a signal, or why it never began."""

    code: int = 0
    signal: int = 0
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return self.error
        return f"was ended by signal {self.signal}" if self.signal else f"ended with code {self.code}"


class Process:
    """A plugin's process. `pid` is 0 until it is known."""

    def __init__(self, process_id: int, spawner: "Spawner") -> None:
        loop = asyncio.get_running_loop()
        self.id = process_id
        self.pid = 0
        self.started: asyncio.Future[None] = loop.create_future()
        self.end: asyncio.Future[ProcessEnd] = loop.create_future()
        self._spawner = spawner

    async def signal(self, number: int) -> None:
        """To the process and its group; nothing happens where it is gone."""
        if not self.end.done():
            await self._spawner.send(Signal(self.id, number))


class Spawner:
    """Owns the fork server; a new one is started when it was lost. `folder` and `groups` are
    removed at its end."""

    def __init__(self, folder: Path, groups: Sequence[Path] = ()) -> None:
        self._folder = folder
        self._groups = groups
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._ready: asyncio.Future[None] | None = None
        self._processes: dict[int, Process] = {}
        self._last_id = 0
        self._stopped = False
        self._log = structlog.get_logger("portway.runtime.spawner")

    @property
    def pid(self) -> int:
        return self._server.pid if self._server else 0

    async def start_server(self) -> None:
        if self._control is not None:
            return
        if self._stopped:
            raise Unavailable("the runtime is being stopped", reason=Reason.SHUTTING_DOWN)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        arguments = [str(theirs.fileno()), str(os.getpid()), str(self._folder), *map(str, self._groups)]
        with theirs:
            self._server = subprocess.Popen(  # noqa: ASYNC220 - once; must be this thread, whose end the child watches
                [sys.executable, "-m", "portway.runtime.workers.fork_server", *arguments],
                env={key: os.environ[key] for key in _PASSED_ON if key in os.environ},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        loop = asyncio.get_running_loop()
        self._control, self._ready = ours, loop.create_future()
        loop.add_reader(ours, self._read)

    async def start(self, start: Start, stdout: int, stderr: int) -> Process:
        """Starts a process that writes to these descriptors, which stay the caller's. Raises `Unavailable`."""
        await self.start_server()
        assert self._ready is not None
        await asyncio.shield(self._ready)
        process = self._processes[start.id] = Process(start.id, self)
        try:
            await self.send(start, [stdout, stderr])
            await asyncio.shield(process.started)
        except asyncio.CancelledError:
            await process.signal(signal.SIGKILL)
            raise
        if process.pid == 0:
            raise Unavailable(f"the plugin's process {process.end.result()}")
        # It may have ended already: what it said of that is still to be read.
        return process

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    async def send(self, request: Request, descriptors: Sequence[int] = ()) -> None:
        raw = pack(request)
        for _ in range(_SEND_RETRIES):
            if self._control is None:
                break
            try:
                socket.send_fds(self._control, [raw], descriptors)
                return
            except BlockingIOError:
                # The fork server is busy with earlier requests; it is local and reads on.
                await asyncio.sleep(0.01)
            except OSError:
                break
        raise Unavailable("the process that starts plugins is gone or stuck; it is started again with the next request")

    def _read(self) -> None:
        assert self._control is not None
        while self._control is not None:
            try:
                raw = self._control.recv(MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                raw = b""
            if not raw:
                self._lose()
                return
            self._take(raw)

    def _take(self, raw: bytes) -> None:
        match unpack_report(raw):
            case Ready():
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(None)
            case Started(child, pid):
                process = self._processes[child]
                process.pid = pid
                process.started.set_result(None)
            case Exited(child, code, number, error):
                self._finish(self._processes.pop(child), ProcessEnd(code, number, error))

    def _finish(self, process: Process, end: ProcessEnd) -> None:
        process.end.set_result(end)
        if not process.started.done():
            process.started.set_result(None)

    def _lose(self) -> None:
        """The fork server is gone, and every plugin with it."""
        assert self._control is not None
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        self._control = None
        if self._server is not None:
            # It may be there still and only deaf; a process that nobody hears from must not keep plugins.
            self._server.kill()
            self._server.wait()
        if self._ready is not None and not self._ready.done():
            # Whoever waits to start a process fails when it is sent.
            self._ready.set_result(None)
        lost, self._processes = self._processes, {}
        if lost:
            self._log.error("the fork server ended, and with it the plugins", plugin_count=len(lost))
        for process in lost.values():
            self._finish(process, ProcessEnd(signal=9))

    async def stop(self) -> None:
        """Ends the fork server, which ends whatever still runs, and waits until it is gone."""
        server, self._server, self._stopped = self._server, None, True
        if self._control is not None:
            self._lose()
        if server is None:
            return
        try:
            await asyncio.to_thread(server.wait, _END_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            await asyncio.to_thread(server.wait)
