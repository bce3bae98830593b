"""What happens to an installation at random, by a seed: the same seed does the same things in the same order."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from portway.rpc.errors import PortwayError
from portway.v1 import status_pb2
from tests.e2e.stack import alive
from tests.faults.storm.installation import ADAPTER, CALLERS, DATABASE, Installation

PARTS = ("host", "runtime", "box", "web")
DEADLINE = 9.0
"""Seconds: longer than a lease of the host, than a connection may be silent, and than a call waits for its answer."""
BACK_WITHIN = 30.0
"""Seconds after which something that was killed counts as not back. What it really took is printed."""
GOAL = 10.0


@dataclass
class Log:
    """What was done and how long it took until everything was back, by what was killed."""

    done: Counter[str] = field(default_factory=Counter)
    back: dict[str, list[float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def slowest(self) -> dict[str, float]:
        return {part: max(seconds) for part, seconds in self.back.items()}


class Weather:
    """Does one thing after the other until it is told to stop."""

    def __init__(self, place: Installation, log: Log, seed: int) -> None:
        self._place = place
        self._log = log
        self._chance = random.Random(seed)
        self._kinds: list[tuple[int, str, Callable[[], Awaitable[None]]]] = [
            (6, "kill of the host", lambda: self._kill("host")),
            (3, "kill of the runtime", lambda: self._kill("runtime")),
            (3, "kill of the box", lambda: self._kill("box")),
            (1, "kill of the web chat", lambda: self._kill("web")),
            (4, "kill of the adapter", self._kill_adapter),
            (4, "kill of a plugin", self._kill_plugin),
            (2, "kill of host and runtime at once", self._kill_both),
            (2, "freeze of the host", lambda: self._freeze("host")),
            (2, "freeze of the runtime", lambda: self._freeze("runtime")),
            (1, "freeze of the box", lambda: self._freeze("box")),
            (2, "freeze of the adapter", lambda: self._freeze(ADAPTER)),
            (3, "cut of the adapter's connections", lambda: self._cut(ADAPTER)),
            (3, "cut of the callers' connections", lambda: self._cut(CALLERS)),
            (2, "half-open connections of the adapter", lambda: self._strand(ADAPTER)),
            (2, "half-open connections of callers", lambda: self._strand(CALLERS)),
        ]
        if place.server is not None:
            self._kinds += [
                (4, "kill of the database server", self._kill_database),
                (3, "cut between host and database", lambda: self._cut(DATABASE)),
                (2, "freeze of the database server", self._freeze_database),
            ]

    async def rage(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        weights = [weight for weight, _, _ in self._kinds]
        while time.monotonic() < until:
            ((_, name, happen),) = self._chance.choices(self._kinds, weights)
            # Drawn before anything is done: what really happens must not change the order of what is drawn.
            calm = self._chance.uniform(0.2, 4.0)
            await happen()
            self._log.done[name] += 1
            await asyncio.sleep(calm)

    async def _kill(self, part: str) -> None:
        began = time.monotonic()
        pid = await self._signal(part, signal.SIGKILL)
        if pid:
            await self._back(part, pid, began)

    async def _kill_both(self) -> None:
        began = time.monotonic()
        pids = [(part, await self._signal(part, signal.SIGKILL)) for part in ("host", "runtime")]
        for part, pid in pids:
            if pid:
                await self._back(part, pid, began)

    async def _kill_adapter(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._place.adapter_pid, signal.SIGKILL)

    async def _kill_plugin(self) -> None:
        pid = await self._place.plugin_pid("tests/deeds")
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def _kill_database(self) -> None:
        assert self._place.server is not None
        began = time.monotonic()
        await asyncio.to_thread(self._place.server.kill)
        await asyncio.to_thread(self._place.server.start)
        await self._serves("database", began)

    async def _freeze_database(self) -> None:
        assert self._place.server is not None
        seconds = self._chance.choice((0.5, 3.0, DEADLINE))
        self._place.server.signal_all(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self._place.server.signal_all(signal.SIGCONT)

    async def _freeze(self, part: str) -> None:
        seconds = self._chance.choice((0.5, 3.0, DEADLINE))
        pid = await self._signal(part, signal.SIGSTOP)
        if pid:
            await asyncio.sleep(seconds)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    async def _cut(self, network: str) -> None:
        self._place.networks[network].cut()

    async def _strand(self, network: str) -> None:
        self._place.networks[network].strand()

    async def _signal(self, part: str, number: int) -> int:
        """Answers the process, once it is there to be hit; 0 if it does not come."""
        until = time.monotonic() + BACK_WITHIN
        while time.monotonic() < until:
            with suppress(OSError, ValueError, KeyError):
                pid = self._place.pid(part)
                os.kill(pid, number)
                while number == signal.SIGKILL and alive(pid):  # noqa: ASYNC110 - the kernel tells nobody
                    await asyncio.sleep(0.005)
                return pid
            await asyncio.sleep(0.02)
        self._log.wrong.append(f"I15: {part} has no process after {BACK_WITHIN} s")
        return 0

    async def _back(self, part: str, pid: int, began: float) -> None:
        while time.monotonic() < began + BACK_WITHIN:
            with suppress(OSError, ValueError, KeyError):
                if self._place.pid(part) != pid:
                    await self._serves(part, began)
                    return
            await asyncio.sleep(0.02)
        self._log.wrong.append(f"I15: {part} was killed and not back within {BACK_WITHIN} s")

    async def _serves(self, part: str, began: float) -> None:
        """The host answers, and says that every other part is there."""
        said = ""
        while time.monotonic() < began + BACK_WITHIN:
            try:
                async with self._place.client() as host:
                    status = await host.status()
                parts = {one.name: one for one in status.parts}
                needed = [parts[name] for name in ("database", "runtime", "box")]
                bad = [f"{one.name}: {one.reason}" for one in needed if one.state != status_pb2.PART_STATE_OK]
                if not bad:
                    self._log.back.setdefault(part, []).append(time.monotonic() - began)
                    return
                said = "; ".join(bad)
            except (PortwayError, OSError, ValueError, KeyError) as error:
                said = str(error)
            await asyncio.sleep(0.05)
        self._log.wrong.append(f"I15: {part} was killed, and after {BACK_WITHIN} s this is wrong: {said}")
