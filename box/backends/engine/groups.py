"""The control groups that an engine made for a container: a lane in them for each command, made and ended by the box.

A command that is in a lane is ended exactly, whatever it started, and counted alone. Only root on the machine has them.
"""

import asyncio
import contextlib
from pathlib import Path

from portway.box.isolation.cgroups import SOCKETS_FILE, SOCKETS_SHARE, Counted, Lane, SessionGroups
from portway.box.isolation.limits import MEBI, Limits
from portway.rpc.control_groups import Placed, find_hierarchies, remove_tree

_KEEPER, _COMMANDS = "keeper", "commands"
# What the keeper and its minders have of a session's memory for themselves: where commands use up all of theirs, also
# with files in memory that no kill gives back, it is not the keeper that has to go.
_RESERVE_BYTES = 24 * MEBI
_LANES = frozenset({"memory", "pids", "cpu", "cpuacct"})


class ContainerGroups:
    """The groups of one container."""

    def __init__(self, directories: list[tuple[Placed, Path]], limits: Limits) -> None:
        self._directories = directories
        self._groups = SessionGroups(directories, limits.pids)
        # What the container uses as a whole, its keeper with it.
        self._whole = SessionGroups([(placed, placed.base) for placed, _commands in directories], limits.pids)
        self._free: list[Lane] = []
        self._count = 0
        self._closed = False

    @classmethod
    def find(cls, pid: int, container: str, limits: Limits) -> "ContainerGroups | None":
        """Those that its first process is in; `None` where they are not in reach."""
        directories = []
        most = limits.memory_bytes - min(_RESERVE_BYTES, limits.memory_bytes // 4)
        for hierarchy in find_hierarchies(member=Path(f"/proc/{pid}")):
            # Only what is the container's alone: elsewhere lanes would be made for everybody.
            if container[:12] in str(hierarchy.own) and hierarchy.kinds & _LANES:
                if hierarchy.version == 2:
                    _make_room(hierarchy.own, hierarchy.kinds)
                placed = Placed(hierarchy.version, hierarchy.kinds, hierarchy.own)
                directories.append((placed, _make_commands(placed, most)))
        kinds = frozenset().union(*(placed.kinds for placed, _path in directories)) if directories else frozenset()
        return cls(directories, limits) if {"memory", "pids"} <= kinds else None

    def take(self) -> Lane:
        """A lane that no command is in."""
        if self._free:
            return self._free.pop()
        self._count += 1
        return self._groups.lane(self._count)

    async def finish(self, lane: Lane) -> Counted:
        """Makes sure that nothing is left in a lane, counts what was, and takes it back."""
        if not lane.is_empty():
            await asyncio.to_thread(lane.kill)
        counted = lane.counted()
        if not self._closed:
            lane.renew()
            self._free.append(lane)
        return counted

    def memory_used(self) -> int | None:
        return self._whole.memory_used()

    def pids_used(self) -> int | None:
        return self._whole.pids_used()

    def cpu_seconds(self) -> float | None:
        return self._whole.cpu_seconds()

    def close(self) -> None:
        """No lane is used again."""
        self._closed = True

    def remove_lanes(self) -> None:
        """Blocking. What the engine made is its own to remove, once nothing of the box's is below."""
        for _placed, commands in self._directories:
            with contextlib.suppress(OSError, TimeoutError):
                remove_tree(commands)


def _make_commands(placed: Placed, most: int) -> Path:
    """The group of all lanes, in the container's."""
    group = placed.base / _COMMANDS
    group.mkdir(exist_ok=True)
    if placed.version == 2:
        _hand_on(group, placed.kinds)
        if "memory" in placed.kinds:
            (group / "memory.max").write_text(str(most))
            with contextlib.suppress(FileNotFoundError):
                (group / "memory.swap.max").write_text("0")
    elif "memory" in placed.kinds:
        (group / "memory.limit_in_bytes").write_text(str(most))
        with contextlib.suppress(FileNotFoundError):
            (group / "memory.memsw.limit_in_bytes").write_text(str(most))
        with contextlib.suppress(FileNotFoundError):
            (group / SOCKETS_FILE).write_text(str(most // SOCKETS_SHARE))
    return group


def _hand_on(group: Path, kinds: frozenset[str]) -> None:
    names = " ".join(f"+{name}" for name in sorted(kinds & {"memory", "pids", "cpu"}))
    (group / "cgroup.subtree_control").write_text(names)


def _make_room(group: Path, kinds: frozenset[str]) -> None:
    """Version 2 allows either processes or groups with limits in a group: the keeper moves down."""
    below = group / _KEEPER
    below.mkdir(exist_ok=True)
    for pid in (group / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            (below / "cgroup.procs").write_text(pid)
    _hand_on(group, kinds)
