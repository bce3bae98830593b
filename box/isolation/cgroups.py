"""Control groups of sessions: limits on the session, and a lane per command inside it for counting and killing."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from portway.box.isolation.limits import Limits
from portway.rpc.control_groups import Placed, find_hierarchies, kill_group, place, remove_group, remove_tree

CPU_PERIOD_MICROSECONDS = 100_000
# null, zero, full, random, urandom, tty, ptmx and the terminals; nobody makes device files inside.
_DEVICES = ("c 1:3 rw", "c 1:5 rw", "c 1:7 rw", "c 1:8 rw", "c 1:9 rw", "c 5:0 rw", "c 5:2 rw", "c 136:* rw")
# Version 1 counts what sockets of the internet hold apart from memory, and only in groups with a bound of their own.
SOCKETS_FILE, SOCKETS_SHARE = "memory.kmem.tcp.limit_in_bytes", 8
# bubblewrap and its init.
_OWN_IN_LANE = 2
# What is counted for each command; the rest is limited for the session as a whole.
_LANE_KINDS = frozenset({"memory", "pids", "cpuacct", "kill"})


@dataclass(frozen=True, slots=True)
class Counted:
    """What one command used. `None` where this machine cannot tell."""

    cpu_seconds: float | None
    peak_memory: int | None
    out_of_memory: bool


class CgroupTree:
    """The groups of this installation, in every hierarchy that can be written to."""

    def __init__(self, name: str, placed: list[Placed], problems: list[str]) -> None:
        self._name = name
        self._placed = placed
        self.problems = tuple(problems)

    @classmethod
    def find(cls, name: str) -> "CgroupTree":
        """Looks at this machine and makes the installation's own directory `name` where it may."""
        try:
            hierarchies = find_hierarchies()
        except OSError as error:
            return cls(name, [], [f"control groups cannot be looked up: {error}"])
        placed, problems = place(hierarchies, name)
        if not hierarchies:
            problems.append("no control groups are mounted")
        return cls(name, placed, problems)

    @property
    def kinds(self) -> frozenset[str]:
        """Which controllers work: `memory`, `pids`, `cpu`, `cpuacct`, `devices`, `kill`."""
        return frozenset().union(*(placed.kinds for placed in self._placed)) if self._placed else frozenset()

    def bases(self) -> list[Path]:
        """The installation's own directory in each hierarchy, made again where an ended launcher process removed it."""
        if not all(placed.base.is_dir() for placed in self._placed):
            self._placed, problems = place(find_hierarchies(), self._name)
            self.problems = tuple(problems)
        return [placed.base for placed in self._placed]

    def create(self, key: str, limits: Limits) -> "SessionGroups":
        """The groups of one session, with its limits in force."""
        self.bases()
        groups = SessionGroups([(placed, placed.base / key) for placed in self._placed], limits.pids)
        groups.make(limits)
        return groups

    def of_key(self, key: str) -> list[Path]:
        """The groups that a session has now."""
        return [base for placed in self._placed if (base := placed.base / key).is_dir()]

    def sweep(self, note: Path) -> tuple[int, int]:
        """Kills and removes every session below this installation's bases. Returns (groups, processes).

        `note` tells where they were last time: a box that is started from elsewhere has another place for them.
        """
        removed = killed = 0
        bases = self.bases()
        left = [child for base in bases for child in base.iterdir() if child.is_dir()]
        elsewhere = [base for base in self._noted(note) if base not in bases and base.is_dir()]
        for group in [*left, *elsewhere]:
            counts = remove_tree(group)
            removed, killed = removed + counts[0], killed + counts[1]
        note.write_text(json.dumps([str(base) for base in bases]))
        return removed, killed

    def _noted(self, note: Path) -> list[Path]:
        """Only directories of this installation's own name."""
        try:
            noted = [Path(path) for path in json.loads(note.read_text())]
        except (OSError, ValueError, TypeError):
            return []
        return [path for path in noted if path.name == self._name]

    def close(self) -> None:
        """Removes the bases; whatever was inside is gone by now."""
        for placed in self._placed:
            with contextlib.suppress(OSError):
                remove_group(placed.base, patience=0.2)


class SessionGroups:
    """The groups of one session."""

    def __init__(self, directories: list[tuple[Placed, Path]], pids: int) -> None:
        self._directories = directories
        self._pids = pids

    def make(self, limits: Limits) -> None:
        for placed, directory in self._directories:
            directory.mkdir(exist_ok=True)
            for file, value in _settings(placed, limits):
                with _optional(file):
                    (directory / file).write_text(value)
            if placed.version == 2:
                _hand_on(directory, placed.kinds)

    def lane(self, index: int) -> "Lane":
        """A group for one command at a time."""
        lane = Lane(self._directories, f"lane{index}", self._pids)
        lane.make()
        return lane

    def memory_used(self) -> int | None:
        return self._read_number("memory", {1: "memory.usage_in_bytes", 2: "memory.current"})

    def memory_peak(self) -> int | None:
        return self._read_number("memory", _PEAK)

    def pids_used(self) -> int | None:
        return self._read_number("pids", {1: "pids.current", 2: "pids.current"})

    def cpu_seconds(self) -> float | None:
        for placed, directory in self._directories:
            if "cpuacct" in placed.kinds:
                return _read_cpu(placed, directory)
        return None

    def _read_number(self, kind: str, files: dict[int, str]) -> int | None:
        for placed, directory in self._directories:
            if kind in placed.kinds:
                with contextlib.suppress(OSError, ValueError):
                    return int((directory / files[placed.version]).read_text())
        return None

    def kill_and_remove(self) -> int:
        """Ends everything in the session and removes its groups. Returns how many processes were killed."""
        return max((remove_tree(directory)[1] for _placed, directory in self._directories), default=0)


class Lane:
    """The group of one command. It is used again after `renew`, so that a warm command makes no directory."""

    def __init__(self, parents: list[tuple[Placed, Path]], name: str, pids: int) -> None:
        self._parents = parents
        self._name = name
        self._pids = pids
        self._oom_before = 0
        self._cpu_before = 0.0

    def _own(self) -> Iterator[tuple[Placed, Path]]:
        for placed, parent in self._parents:
            yield placed, (parent / self._name if placed.kinds & _LANE_KINDS else parent)

    def make(self) -> None:
        for placed, directory in self._own():
            if placed.kinds & _LANE_KINDS:
                directory.mkdir(exist_ok=True)
                self._limit(placed, directory)
            if placed.version == 1 and "memory" in placed.kinds:
                with _optional(SOCKETS_FILE):
                    (directory / SOCKETS_FILE).write_text((directory.parent / SOCKETS_FILE).read_text())
        self._oom_before = self._oom_kills()

    def _limit(self, placed: Placed, directory: Path) -> None:
        if "pids" in placed.kinds:
            (directory / "pids.max").write_text(str(self._pids + _OWN_IN_LANE))

    def open_for_joining(self) -> list[int]:
        """Descriptors to write `0` to by the process that joins; the caller closes them."""
        opened: list[int] = []
        try:
            for _placed, directory in self._own():
                opened.append(os.open(directory / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            raise
        return opened

    def counted(self) -> Counted:
        cpu: float | None = None
        peak: int | None = None
        for placed, directory in self._own():
            with contextlib.suppress(OSError, ValueError):
                if "cpuacct" in placed.kinds:
                    cpu = _read_cpu(placed, directory)
                if "memory" in placed.kinds:
                    peak = int((directory / _PEAK[placed.version]).read_text())
        used = None if cpu is None else max(0.0, cpu - self._cpu_before)
        return Counted(used, peak, self._oom_kills() > self._oom_before)

    def begin(self) -> None:
        """Counts from here on: what was used to set things up is not the command's."""
        for placed, directory in self._own():
            if "cpuacct" in placed.kinds:
                self._cpu_before = _read_cpu(placed, directory) or 0.0
            if "memory" in placed.kinds and placed.version == 1:
                (directory / _PEAK[1]).write_text("0")

    def _oom_kills(self) -> int:
        for placed, directory in self._own():
            if "memory" in placed.kinds:
                with contextlib.suppress(OSError):
                    return _field(directory / _OOM[placed.version], "oom_kill")
        return 0

    def is_empty(self) -> bool:
        """Members are the same in every hierarchy, so one tells."""
        for placed, directory in self._own():
            if placed.kinds & _LANE_KINDS:
                return not (directory / "cgroup.procs").read_text()
        return True

    def kill(self) -> int:
        """Kills what is left in the lane, until it is empty."""
        return max((kill_group(path) for placed, path in self._own() if placed.kinds & _LANE_KINDS), default=0)

    def renew(self) -> None:
        """Sets the counters back for the next command."""
        for placed, directory in self._own():
            if not placed.kinds & _LANE_KINDS:
                continue
            if placed.version == 2:
                # Version 2 cannot set its counters back on every kernel; a new directory can.
                remove_group(directory)
                directory.mkdir()
            self._limit(placed, directory)
        self._oom_before = self._oom_kills()

    def remove(self) -> None:
        for placed, directory in self._own():
            if placed.kinds & _LANE_KINDS:
                kill_group(directory)
                remove_group(directory)


_PEAK = {1: "memory.max_usage_in_bytes", 2: "memory.peak"}
_OOM = {1: "memory.oom_control", 2: "memory.events"}


def _settings(placed: Placed, limits: Limits) -> Iterator[tuple[str, str]]:
    """Files and values, in the order in which the kernel takes them."""
    quota = max(1000, limits.cpu_millis * CPU_PERIOD_MICROSECONDS // 1000)
    if placed.version == 1:
        if "memory" in placed.kinds:
            yield "memory.limit_in_bytes", str(limits.memory_bytes)
            yield "memory.memsw.limit_in_bytes", str(limits.memory_bytes)
            yield SOCKETS_FILE, str(limits.memory_bytes // SOCKETS_SHARE)
        if "cpu" in placed.kinds:
            yield "cpu.cfs_period_us", str(CPU_PERIOD_MICROSECONDS)
            yield "cpu.cfs_quota_us", str(quota)
        if "devices" in placed.kinds:
            yield "devices.deny", "a"
            for device in _DEVICES:
                yield "devices.allow", device
    else:
        if "memory" in placed.kinds:
            yield "memory.max", str(limits.memory_bytes)
            yield "memory.swap.max", "0"
        if "cpu" in placed.kinds:
            yield "cpu.max", f"{quota} {CPU_PERIOD_MICROSECONDS}"
    if "pids" in placed.kinds:
        yield "pids.max", str(limits.pids + limits.own_processes)


@contextlib.contextmanager
def _optional(file: str) -> Iterator[None]:
    """Kernels that do not account for swap, or for sockets apart, have no file for it: nothing can be limited."""
    try:
        yield
    except FileNotFoundError:
        if "swap" not in file and "memsw" not in file and file != SOCKETS_FILE:
            raise


def _hand_on(directory: Path, kinds: frozenset[str]) -> None:
    names = " ".join(f"+{name}" for name in sorted(kinds & {"memory", "pids", "cpu"}))
    if names:
        (directory / "cgroup.subtree_control").write_text(names)


def _read_cpu(placed: Placed, directory: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        if placed.version == 1:
            return int((directory / "cpuacct.usage").read_text()) / 1e9
        return _field(directory / "cpu.stat", "usage_usec") / 1e6
    return None


def _field(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
