"""Launchers of a session, each in a lane (a control group) of its own; lanes are used again."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass

from portway.box.backends.namespace import wire
from portway.box.backends.namespace.zygote_client import Ended, LaunchedProcess, ZygoteClient
from portway.box.isolation.cgroups import Counted, Lane, SessionGroups
from portway.rpc.errors import Unavailable

_NOTHING_COUNTED = Counted(None, None, False)


@dataclass(frozen=True, slots=True)
class Launcher:
    """A launcher that waits for its command in a lane."""

    process: LaunchedProcess
    lane: Lane | None

    def hand_over(self, packet: bytes, descriptors: list[int]) -> None:
        """Gives it its command, or search. Raises `Unavailable` where it is gone."""
        try:
            wire.send_raw(self.process.line, packet, descriptors)
        except OSError as error:
            raise Unavailable(f"the sandbox did not take the command: {error.strerror}", retry_after=0.2) from None

    def count_from_here(self) -> None:
        """What it took to come so far is not the command's."""
        if self.lane is not None:
            self.lane.begin()

    def dismiss(self) -> None:
        """Without a command, it ends when its line closes."""
        self.process.line.close()


class Lanes:
    """Makes launchers, and takes their lanes back when nothing is left of what they became."""

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
        self._free: list[Lane] = []
        self._count = 0
        self._closed = False

    async def make(self) -> Launcher:
        if self._closed:
            raise Unavailable("the session is being deleted")
        lane = self._lane()
        joins = lane.open_for_joining() if lane is not None else []
        try:
            process = await self._zygote.launch(self._order, [*self._namespaces, *joins])
        finally:
            for descriptor in joins:
                os.close(descriptor)
        return Launcher(process, lane)

    def _lane(self) -> Lane | None:
        if self._groups is None:
            return None
        if self._free:
            return self._free.pop()
        self._count += 1
        return self._groups.lane(self._count)

    async def finish(self, launcher: Launcher) -> tuple[Ended, Counted]:
        """Waits for its end, makes sure that nothing is left, and counts."""
        try:
            ended = await launcher.process.ended
        finally:
            launcher.dismiss()
        lane = launcher.lane
        if lane is None:
            return ended, _NOTHING_COUNTED
        if not lane.is_empty():
            await asyncio.to_thread(lane.kill)
        counted = lane.counted()
        if not self._closed:
            lane.renew()
            self._free.append(lane)
        return ended, counted

    def close(self) -> None:
        """No more launchers; the lanes go with the session's groups."""
        self._closed = True
