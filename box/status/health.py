"""How the box is: whether a backend works and why not, what runs, and whether it still takes work."""

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from portway.box.backends.choice import BackendChoice
from portway.box.backends.types import BackendReport
from portway.box.processes.run import CommandRunner
from portway.box.sessions.directory import SessionDirectory
from portway.box.sessions.types import SessionFigures
from portway.box.status.errors import ErrorLog

PROBE_AGAIN_SECONDS = 5.0
NOT_SERVED = (
    ("nsjail", "not available in this version"),
    ("e2b", "not available in this version"),
)


@dataclass(frozen=True, slots=True)
class BoxFigures:
    """Counts now, and resident memory of the server in bytes."""

    sessions: int
    running: int
    commands: int
    memory_bytes: int


class BoxHealth:
    """Looks at the backend when asked, at most every so often while it does not work."""

    def __init__(
        self,
        backend: BackendChoice,
        sessions: SessionDirectory,
        runner: CommandRunner,
        errors: ErrorLog,
        *,
        enabled: bool,
        swept: int,
    ) -> None:
        self._backend = backend
        self._sessions = sessions
        self._runner = runner
        self._errors = errors
        self.enabled = enabled
        self.swept = swept
        self.start_time = time.time()
        self._report = BackendReport(backend.name, False, "was not looked at yet")
        self._looked = float("-inf")
        self._looking = asyncio.Lock()

    async def report(self, *, fresh: bool = False) -> BackendReport:
        """The backend as it is. A working one is not probed again before it fails."""
        async with self._looking:
            old = time.monotonic() - self._looked > PROBE_AGAIN_SECONDS
            if self.enabled and (fresh or (old and not self._report.available)):
                known = self._report.reason
                self._report = await self._backend.probe()
                self._looked = time.monotonic()
                if not self._report.available and self._report.reason != known:
                    self._errors.note("BACKEND_UNAVAILABLE", self._report.reason)
        return self._report

    @property
    def known(self) -> BackendReport:
        """As it was when it was looked at last."""
        return self._report

    def distrust(self, reason: str) -> None:
        """The backend failed: it is looked at again with the next question."""
        if not self._report.available:
            # What a probe starts ends when the probe fails, and it says less about why.
            return
        self._errors.note("BACKEND_FAILED", reason)
        self._report = replace(self._report, available=False, reason=reason)
        self._looked = float("-inf")

    async def others(self) -> list[BackendReport]:
        """Every backend that is not used now, and why."""
        tried = await self._backend.others() if self.enabled else []
        return [*tried, *(BackendReport(name, False, reason) for name, reason in NOT_SERVED)]

    @property
    def draining(self) -> bool:
        return self._sessions.draining

    async def drain(self, grace: float) -> int:
        """Refuses new work and waits. Returns how much still runs."""
        self._sessions.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._sessions.until_idle(), grace)
        return self._sessions.running_count

    @property
    def required_probes(self) -> Sequence[str]:
        return self._sessions.required_probes

    async def sessions_in_use(self, workspace_id: str, limit: int) -> tuple[Sequence[SessionFigures], int]:
        """Of the sessions that were used last, and how many others there are."""
        return await self._sessions.figures(workspace_id, limit)

    def figures(self) -> BoxFigures:
        with open("/proc/self/statm", "rb") as file:
            pages = int(file.read().split()[1])
        return BoxFigures(
            self._sessions.count,
            self._sessions.running_count,
            self._runner.numbers.started,
            pages * os.sysconf("SC_PAGE_SIZE"),
        )
