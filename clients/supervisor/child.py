"""One supervised process: started, watched until it is ready, started again with growing pauses, stopped."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from portway.clients.supervisor.parts import Part
from portway.rpc.configuration import EXIT_CODE as CONFIGURATION_WRONG
from portway.rpc.supervised import SUPERVISOR_VARIABLE

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 3.0
"""With the time a part needs to start, everything is back within ten seconds, however often something dies."""
_STEADY_AFTER = 30.0
"""Seconds after which a process counts as steady: its next crash begins with the short pause again."""
_LOOK = 0.02
"""Seconds between two looks at a ready file."""


class PartFailed(Exception):
    """A part ended before it was ever ready, or its settings are wrong. It has said why on its error output."""

    def __init__(self, part: str, exit_code: int) -> None:
        super().__init__(part, exit_code)
        self.part = part
        self.exit_code = exit_code

    def __str__(self) -> str:
        how = f"exit code {self.exit_code}" if self.exit_code >= 0 else f"signal {-self.exit_code}"
        return f"{self.part} could not start ({how}); its own message stands above"


@dataclass(frozen=True, slots=True)
class Serving:
    """Where a part serves, as it said in its ready file."""

    address: str
    pid: int


class Child:
    """Keeps one part running until it is stopped."""

    def __init__(
        self,
        part: Part,
        ready_file: Path,
        environment: Mapping[str, str],
        on_ready: Callable[[str, Serving], Awaitable[None]],
    ) -> None:
        self.part = part
        self.ever_ready = asyncio.Event()
        self.given_up = asyncio.Event()
        """An optional part ended before it was ready: nobody waits for it, it is still started again."""
        self._ready_file = ready_file
        # The C core of gRPC writes to standard error by itself; its lines are no use to operators.
        quiet = {"GRPC_VERBOSITY": environment.get("GRPC_VERBOSITY", "ERROR")}
        self._environment = {**part.environment(environment), **quiet, SUPERVISOR_VARIABLE: str(os.getpid())}
        self._on_ready = on_ready
        self._listen = part.listen
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def keep(self) -> None:
        """Start it, and start it again when it ends. Returns after `stop`.

        Raises `PartFailed` where another start is useless.
        """
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            exit_code = await self._live_once()
            if self._stopping.is_set():
                return
            first_time = not self.ever_ready.is_set()
            if exit_code == CONFIGURATION_WRONG or (first_time and not self.part.optional):
                raise PartFailed(self.part.name, exit_code)
            self.given_up.set()
            if time.monotonic() - began > _STEADY_AFTER:
                pause = _FIRST_PAUSE
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def stop(self, grace: float) -> None:
        """Ask it to end, wait, then kill its whole group."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def _live_once(self) -> int:
        self._ready_file.unlink(missing_ok=True)
        # A group of its own: Ctrl-C reaches only the supervisor, which then stops the parts in order.
        process = await asyncio.create_subprocess_exec(
            *self.part.command(self._ready_file, self._listen),
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        self._process = process
        if self._stopping.is_set():
            process.terminate()
        watching = asyncio.create_task(self._watch_ready(process))
        try:
            return await process.wait()
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _watch_ready(self, process: asyncio.subprocess.Process) -> None:
        while process.returncode is None:
            serving = _read_ready(self._ready_file)
            if serving is not None and serving.pid == process.pid:
                # The next start takes the same port, so that clients find it again.
                if self.part.listen.endswith(":0"):
                    self._listen = _host_and_port(serving.address)
                await self._on_ready(self.part.name, serving)
                self.ever_ready.set()
                return
            await asyncio.sleep(_LOOK)


def _read_ready(path: Path) -> Serving | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return Serving(str(content["address"]), int(content["pid"]))


def _host_and_port(address: str) -> str:
    bare = address.split("//", 1)[-1]
    return bare.split("/", 1)[0]
