"""Control groups of plugins: one for each process of a plugin and all that it starts.

With them memory, processes and processor time are bounded for a plugin as a whole, one that uses too much memory is
told apart from one that crashed, and nothing that it started escapes its end. Where the kernel does not let the runtime
make groups, limits of single processes are what is left; `missing` says so.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from portway.rpc.control_groups import Placed, find_hierarchies, kill_group, place, remove_group, remove_tree
from portway.runtime.plugins.types import ProcessLimits

_KINDS = {
    "memory": "memory of a plugin and all that it starts, as one (each process is limited by itself)",
    "pids": "the number of a plugin's processes",
    "cpu": "a plugin's share of the processors (plugins only come after the servers)",
}
_PERIOD_MICROSECONDS = 100_000
_MEGABYTE = 1024 * 1024
_KILL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Group:
    """The group of one process, in each hierarchy. Empty where there are no groups."""

    directories: Sequence[tuple[Placed, Path]] = ()

    @property
    def entrances(self) -> Sequence[str]:
        """Files to write `0` to by the process that joins."""
        return [str(directory / "cgroup.procs") for _placed, directory in self.directories]

    @property
    def bounds_memory(self) -> bool:
        return any("memory" in placed.kinds for placed, _directory in self.directories)

    def out_of_memory(self) -> bool:
        """Whether the kernel has ended something in it for using too much."""
        return self._counted("memory", {1: "memory.oom_control", 2: "memory.events"}, "oom_kill")

    def out_of_processes(self) -> bool:
        """Whether a process or thread more than allowed was refused."""
        return self._counted("pids", {1: "pids.events", 2: "pids.events"}, "max")

    def _counted(self, kind: str, files: Mapping[int, str], word: str) -> bool:
        for placed, directory in self.directories:
            if kind in placed.kinds:
                with suppress(OSError, ValueError):
                    words = (directory / files[placed.version]).read_text().split()
                    return int(words[words.index(word) + 1]) > 0
        return False

    def remove(self) -> None:
        """Ends whatever is left in it. What cannot be removed is removed when the next runtime starts."""
        for _placed, directory in self.directories:
            with suppress(OSError, TimeoutError):
                kill_group(directory, patience=_KILL_SECONDS)
                remove_group(directory)


class Groups:
    """The groups of one runtime. Everything here blocks."""

    def __init__(self, placed: Sequence[Placed], problems: Sequence[str]) -> None:
        self._placed = placed
        self._problems = problems

    @classmethod
    def find(cls, owner: Path) -> "Groups":
        """Makes this runtime's own directory where it may, and ends what an earlier runtime has left there. `owner` is
        a folder that belongs to one runtime at a time."""
        name = f"portway-plugins-{hashlib.sha256(str(owner.resolve()).encode()).hexdigest()[:12]}"
        try:
            hierarchies = [one for one in find_hierarchies() if one.kinds & _KINDS.keys()]
        except OSError as error:
            return cls((), [f"control groups cannot be looked up: {error}"])
        placed, problems = place(hierarchies, name)
        for one in placed:
            for left in [child for child in one.base.iterdir() if child.is_dir()]:
                with suppress(OSError, TimeoutError):
                    remove_tree(left)
        return cls(placed, problems)

    @property
    def bases(self) -> Sequence[Path]:
        """The runtime's own directories, which hold nothing but groups of plugins."""
        return [one.base for one in self._placed]

    @property
    def missing(self) -> Sequence[str]:
        """What is not bounded on this machine, and why."""
        had = set[str]().union(*(one.kinds for one in self._placed))
        why = f": {'; '.join(self._problems)}" if self._problems else ""
        return [f"{told} cannot be bounded here{why}" for kind, told in _KINDS.items() if kind not in had]

    def make(self, name: str, limits: ProcessLimits) -> Group:
        """A group with these limits in force. Raises `OSError`."""
        directories = [(placed, placed.base / name) for placed in self._placed]
        for placed, directory in directories:
            directory.mkdir(exist_ok=True)
            for file, value, needed in _settings(placed, limits):
                try:
                    (directory / file).write_text(value)
                except FileNotFoundError:
                    # Kernels without accounting of swap have no such file.
                    if needed:
                        raise
        return Group(directories)

    def close(self) -> None:
        """Removes the runtime's own directories."""
        for placed in self._placed:
            with suppress(OSError, TimeoutError):
                remove_tree(placed.base, patience=_KILL_SECONDS)


def _settings(placed: Placed, limits: ProcessLimits) -> list[tuple[str, str, bool]]:
    """File, value, and whether it must be there."""
    memory = str(limits.memory_mb * _MEGABYTE)
    quota = str(int(limits.cpus * _PERIOD_MICROSECONDS)) if limits.cpus else ""
    found: list[tuple[str, str, bool]] = []
    if "memory" in placed.kinds and placed.version == 2:
        found += [("memory.max", memory, True), ("memory.swap.max", "0", False), ("memory.oom.group", "1", False)]
    elif "memory" in placed.kinds:
        found += [("memory.limit_in_bytes", memory, True), ("memory.memsw.limit_in_bytes", memory, False)]
    if "pids" in placed.kinds:
        found.append(("pids.max", str(limits.processes), True))
    if "cpu" in placed.kinds and quota and placed.version == 2:
        found.append(("cpu.max", f"{quota} {_PERIOD_MICROSECONDS}", True))
    elif "cpu" in placed.kinds and quota:
        found += [("cpu.cfs_period_us", str(_PERIOD_MICROSECONDS), True), ("cpu.cfs_quota_us", quota, True)]
    return found
