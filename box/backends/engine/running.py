"""A command in a container: its pipes or terminal come from the box, its end from its minder."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portway.box.backends.engine.becoming import NO_DIRECTORY
from portway.box.backends.interface import NothingRan
from portway.box.backends.namespace.running import CommandPipes, RunningProcess
from portway.box.backends.namespace.zygote_client import Ended
from portway.box.backends.types import Exit, ExitStatus
from portway.box.isolation.cgroups import Counted
from portway.rpc.errors import FieldViolation, Unavailable

_REPORT_BYTES = 4096
_WHY_BYTES = 64


@dataclass(frozen=True, slots=True)
class Report:
    """What a minder says at the end: a wait status, seconds, bytes."""

    status: int
    cpu_seconds: float
    peak_memory: int
    out_of_memory: bool


async def report_of(line: socket.socket, begun: asyncio.Event) -> Report:
    """Raises `Unavailable` where the end was not seen, or nothing could be started. Sets `begun` once it runs."""
    said: dict[str, Any] = {"begun": True}
    while "begun" in said:
        try:
            data = await asyncio.get_running_loop().sock_recv(line, _REPORT_BYTES)
        except OSError:
            data = b""
        if not data:
            raise Unavailable("the session's container was lost, and the end of its commands was not seen")
        said = json.loads(data)
        begun.set()
    if "failed" in said:
        raise Unavailable(str(said["failed"]), retry_after=1.0)
    return Report(said["status"], said["cpu_seconds"], said["peak_memory"], said["out_of_memory"])


class KeptCommand(RunningProcess):
    """Implements `RunningCommand`. Unlike a shell's word for it, the status tells a signal from an exit code."""

    def __init__(
        self,
        pipes: CommandPipes,
        finished: "asyncio.Task[tuple[Ended, Counted]]",
        send_signal: Callable[[int], None],
    ) -> None:
        super().__init__(pipes, finished, send_signal)
        self._why = b""

    async def wait(self) -> Exit:
        ended, counted = await asyncio.shield(self._finished)
        duration = time.monotonic() - self._began
        # Kept: who asks again gets the same answer.
        self._why = self._why or await self._pipes.status.read(_WHY_BYTES)
        if self._why.startswith(NO_DIRECTORY):
            text = "there is no such directory in the session"
            field = "command.working_directory"
            raise NothingRan(f"{field}: {text}", fields=[FieldViolation(field, text)])
        status, code, number = _meaning(ended.status, counted)
        cpu = counted.cpu_seconds if counted.cpu_seconds is not None else ended.cpu_seconds
        return Exit(status, code, number, duration, cpu, counted.peak_memory)


def _meaning(status: int, counted: Counted) -> tuple[ExitStatus, int | None, int | None]:
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    code = os.WEXITSTATUS(status) if number is None else None
    if counted.out_of_memory and code != 0:
        return ExitStatus.OUT_OF_MEMORY, None, number
    if number is not None:
        return ExitStatus.KILLED, None, number
    return ExitStatus.COMPLETED, code, None
