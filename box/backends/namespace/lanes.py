"""Launchers of a session: made ahead of need, each in a lane (a control group) of its own, and the lanes used again."""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from portway.box.backends.namespace.zygote_client import Ended, LaunchedProcess, ZygoteClient
from portway.box.isolation.cgroups import Counted, Lane, SessionGroups
from portway.box.tasks import TaskOwner
from portway.rpc.errors import Unavailable

MOST_WAITING = 16
_NOTHING_COUNTED = Counted(None, None, False)


@dataclass(frozen=True, slots=True)
class Launcher:
    """A launcher that waits for its command in a lane."""

    process: LaunchedProcess
    lane: Lane | None

    def dismiss(self) -> None:
        self.process.line.close()


class LauncherPool:
    """Keeps as many launchers waiting as commands ran lately, at least one."""

    def __init__(
        self,
        zygote: ZygoteClient,
        groups: SessionGroups | None,
        order: Mapping[str, object],
        namespaces: tuple[int, int],
    ) -> None:
        self._zygote = zygote
        self._groups = groups
        self._order = dict(order)
        self._namespaces = namespaces
        self._waiting: deque[Launcher] = deque()
        self._lanes: list[Lane] = []
        self._lane_count = 0
        self._running = 0
        self._making = 0
        self._closed = False
        self._tasks = TaskOwner("launchers of a session")

    async def fill(self) -> None:
        """The first launcher, so that the first command is a warm one too."""
        self._waiting.append(await self._make())

    async def take(self) -> Launcher:
        while self._waiting:
            launcher = self._waiting.popleft()
            if not launcher.process.ended.done():
                break
            self._give_back(launcher.lane)
        else:
            launcher = await self._make()
        self._running += 1
        return launcher

    def refill(self) -> None:
        """Makes the next launcher while the command that took one runs."""
        if not self._closed and len(self._waiting) + self._making < min(MOST_WAITING, max(1, self._running)):
            self._making += 1
            self._tasks.start(self._add())

    async def _add(self) -> None:
        try:
            # Without one ahead of need the next command makes its own, and says what is wrong.
            with contextlib.suppress(Unavailable, OSError):
                launcher = await self._make()
                if self._closed:
                    launcher.dismiss()
                else:
                    self._waiting.append(launcher)
        finally:
            self._making -= 1

    async def _make(self) -> Launcher:
        if self._closed:
            raise Unavailable("the session is being deleted")
        lane = self._lane()
        joins = lane.open_for_joining() if lane is not None else []
        try:
            process = await self._zygote.launch(self._order, [*self._namespaces, *joins])
        except BaseException:
            self._give_back(lane)
            raise
        finally:
            for descriptor in joins:
                os.close(descriptor)
        return Launcher(process, lane)

    def _lane(self) -> Lane | None:
        if self._groups is None:
            return None
        if self._lanes:
            return self._lanes.pop()
        self._lane_count += 1
        return self._groups.lane(self._lane_count)

    def _give_back(self, lane: Lane | None) -> None:
        if lane is not None and not self._closed:
            self._lanes.append(lane)

    async def finish(self, launcher: Launcher) -> tuple[Ended, Counted]:
        """Waits for the end of a launcher that was taken, makes sure that nothing is left, and counts."""
        try:
            ended = await launcher.process.ended
        finally:
            self._running -= 1
            launcher.dismiss()
        lane = launcher.lane
        if lane is None:
            return ended, _NOTHING_COUNTED
        if not lane.is_empty():
            await asyncio.to_thread(lane.kill)
        counted = lane.counted()
        if not self._closed:
            lane.renew()
            self._give_back(lane)
        return ended, counted

    async def close(self) -> None:
        self._closed = True
        while self._waiting:
            launcher = self._waiting.popleft()
            launcher.dismiss()
            with contextlib.suppress(Unavailable):
                await launcher.process.ended
        await self._tasks.close()
