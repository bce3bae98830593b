"""Which backend makes the sandboxes of this box: the one that is named, or the first of several that really works."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from portway.box.backends.interface import Backend, Sandbox
from portway.box.backends.types import BackendReport, HeldThing, SandboxSpec
from portway.box.images.interface import Images
from portway.rpc.errors import NotFound

AUTO = "auto"
ORDER = ("namespace", "docker", "podman", "nsjail")
"""What `auto` tries, in this order."""
LOOK_AGAIN_SECONDS = 60.0


class BackendChoice:
    """Implements `Backend` by the one it chose. A probe chooses again, so one that fails makes room for the next.

    Sandboxes stay with the backend that made them. What is left of an earlier life is cleaned up in all of them: it may
    have been made by another one than today's.
    """

    def __init__(self, backends: Mapping[str, Backend], wanted: str = AUTO) -> None:
        self._backends = dict(backends)
        names = [name for name in ORDER if name in backends] if wanted == AUTO else [wanted]
        if not names or any(name not in backends for name in names):
            raise NotFound.of("backend", wanted)
        self._candidates: Sequence[str] = names
        self._chosen = names[0]
        self._reports: dict[str, BackendReport] = {}
        self._looked: dict[str, float] = {}
        self._looking = asyncio.Lock()
        # Those that made sandboxes: what they hold may be in use, also while they fail.
        self._used: set[str] = set()

    @property
    def name(self) -> str:
        return self._chosen

    @property
    def images(self) -> Images | None:
        return self._current().images

    def _current(self) -> Backend:
        return self._backends[self._chosen]

    async def probe(self) -> BackendReport:
        """The first candidate that works, or else what the first one says is missing, with the others' reasons."""
        async with self._looking:
            reports = []
            for name in self._candidates:
                report = await self._look(name)
                if report.available:
                    if name != self._chosen:
                        structlog.get_logger().info("another backend is chosen", before=self._chosen, now=name)
                    self._chosen = name
                    return report
                reports.append(report)
                if name not in self._used:
                    await self._backends[name].close()
            self._chosen = self._candidates[0]
            return _with_reasons(reports)

    async def _look(self, name: str) -> BackendReport:
        report = self._reports[name] = await self._backends[name].probe()
        self._looked[name] = time.monotonic()
        return report

    async def others(self) -> list[BackendReport]:
        """Every backend but the chosen one, really tried, though not more often than every so often."""
        async with self._looking:
            return [await self._aside(name) for name in ORDER if name in self._backends and name != self._chosen]

    async def _aside(self, name: str) -> BackendReport:
        if time.monotonic() - self._looked.get(name, float("-inf")) > LOOK_AGAIN_SECONDS:
            await self._look(name)
            # It is not in use: what it holds ready costs memory for nothing.
            await self._backends[name].close()
        return self._reports[name]

    async def create(self, spec: SandboxSpec) -> Sandbox:
        self._used.add(self._chosen)
        return await self._current().create(spec)

    async def discard(self, key: str) -> None:
        for backend in self._backends.values():
            await backend.discard(key)

    async def held(self, key: str) -> tuple[HeldThing, ...]:
        found = [thing for backend in self._backends.values() for thing in await backend.held(key)]
        return tuple(dict.fromkeys(found))

    async def cleanup(self, keep: frozenset[str]) -> int:
        swept = sum([await backend.cleanup(keep) for backend in self._backends.values()])
        for name, backend in self._backends.items():
            if name not in self._candidates:
                # What it made to look for leftovers, such as its own control groups, is not left standing.
                await backend.close()
        return swept

    async def close(self) -> None:
        for backend in reversed(self._backends.values()):
            await backend.close()


def _with_reasons(reports: Sequence[BackendReport]) -> BackendReport:
    first, *rest = reports
    if not rest:
        return first
    said = "; ".join(f"{report.name}: {report.reason}" for report in rest)
    return replace(first, reason=f"{first.reason}. Nor does another backend work: {said}")
