"""Runs all parts until a signal, and tells where they serve."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from portway.clients.supervisor.child import Child, PartFailed, Serving
from portway.clients.supervisor.credentials import write_credentials
from portway.clients.supervisor.layout import Layout, StartError, lock, prepare, remember_current, write_json
from portway.clients.supervisor.parts import Settings, parts_of

_GRACE = {"web": 5.0, "host": 15.0, "runtime": 10.0, "box": 10.0}
_STOP_ORDER = ("web", "host", "runtime", "box")


class Supervisor:
    """One installation. Its ready file is JSON: the addresses by part (`host`, `runtime`, `box`, `web`), `token_file`
    (an admin token), and `pids` by part with `up` for the supervisor itself. It is there while everything serves.
    """

    def __init__(
        self,
        settings: Settings,
        ready_file: Path | None,
        environment: Mapping[str, str],
        announce: Callable[[Layout], None],
    ) -> None:
        self._layout = Layout(settings.data.absolute())
        self._settings = settings
        self._ready_files = [self._layout.ready] + ([ready_file] if ready_file else [])
        self._environment = environment
        self._announce = announce
        self._serving: dict[str, Serving] = {}
        self._all_ready = False

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises `StartError` or `PartFailed` where it cannot start."""
        prepare(self._layout)
        held = lock(self._layout)
        try:
            for path in self._ready_files:
                path.unlink(missing_ok=True)
            write_credentials(self._layout)
            await self._run_parts()
        finally:
            for path in self._ready_files:
                path.unlink(missing_ok=True)
            os.close(held)

    async def _run_parts(self) -> None:
        parts = parts_of(self._settings, self._layout)
        children = {
            part.name: Child(part, self._layout.ready_of(part.name), self._environment, self._part_ready)
            for part in parts
        }
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        keeping = [asyncio.create_task(_keep(child, children), name=child.part.name) for child in children.values()]
        try:
            await self._until_asked(children, keeping, asked)
        finally:
            for name in _STOP_ORDER:
                await children[name].stop(_GRACE[name])
            for task in keeping:
                # One that still waits for a part that it needs would wait for ever.
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def _until_asked(
        self, children: Mapping[str, Child], keeping: list[asyncio.Task[None]], asked: asyncio.Event
    ) -> None:
        signalled = asyncio.create_task(asked.wait())
        starting = asyncio.create_task(self._finish_start(children))
        try:
            pending: set[asyncio.Task[object]] = {signalled, starting, *keeping}
            while not signalled.done():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    await task
        finally:
            signalled.cancel()
            starting.cancel()
            await asyncio.gather(signalled, starting, return_exceptions=True)

    async def _finish_start(self, children: Mapping[str, Child]) -> None:
        for child in children.values():
            await _ready_or_given_up(child)
        self._all_ready = True
        self._write_ready()
        remember_current(self._layout, self._environment)
        self._announce(self._layout)

    async def _part_ready(self, name: str, serving: Serving) -> None:
        self._serving[name] = serving
        if self._all_ready:
            self._write_ready()

    def _write_ready(self) -> None:
        addresses: dict[str, object] = {name: serving.address for name, serving in self._serving.items()}
        addresses["token_file"] = str(self._layout.admin_token)
        addresses["pids"] = {"up": os.getpid(), **{name: serving.pid for name, serving in self._serving.items()}}
        for path in self._ready_files:
            write_json(path, addresses)


async def _keep(child: Child, children: Mapping[str, Child]) -> None:
    for needed in child.part.needs:
        await _ready_or_given_up(children[needed])
    await child.keep()


async def _ready_or_given_up(child: Child) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in (child.ever_ready, child.given_up)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


__all__ = ["PartFailed", "StartError", "Supervisor"]
