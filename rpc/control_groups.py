"""Where this machine keeps its control groups, and which of the two generations each controller is in.

Controllers may be spread over version 1 hierarchies, version 2, or both at once: each is looked up by itself.
"""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

CONTROLLERS = ("memory", "pids", "cpu", "cpuacct", "devices")
_LEAF = "portway-main"


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted tree. `own` is the group that this process is in, `kinds` what it can be used for."""

    version: int
    kinds: frozenset[str]
    mount: Path
    own: Path


@dataclass(frozen=True, slots=True)
class Placed:
    """A controller and the directory of this installation in its hierarchy."""

    version: int
    kinds: frozenset[str]
    base: Path


def find_hierarchies(proc: Path = Path("/proc/self"), member: Path | None = None) -> list[Hierarchy]:
    """Every hierarchy that is mounted here, from the process's own view of mounts and memberships.

    `member` is the directory in /proc of another process whose groups are looked for instead.
    """
    memberships = _memberships((member or proc) / "cgroup")
    found: dict[frozenset[str], Hierarchy] = {}
    for line in (proc / "mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _source, options = rest.split(" ", 2)
        root, mount_point = fields.split(" ")[3:5]
        if kind == "cgroup2":
            path = memberships.get("", "/")
            mount = Path(mount_point)
            available = _words(mount / "cgroup.controllers")
            names = frozenset(available & set(CONTROLLERS)) | {"kill"}
            if "cpu" in names:
                names |= {"cpuacct"}
            found.setdefault(names, Hierarchy(2, names, mount, _inside(mount, root, path)))
        elif kind == "cgroup":
            names = frozenset(set(options.split(",")) & set(CONTROLLERS))
            if names:
                path = next((memberships[name] for name in names if name in memberships), "/")
                mount = Path(mount_point)
                found.setdefault(names, Hierarchy(1, names, mount, _inside(mount, root, path)))
    return list(found.values())


def _memberships(file: Path) -> dict[str, str]:
    """Controller name (empty for version 2) to the path of this process's group."""
    paths: dict[str, str] = {}
    for line in file.read_text().splitlines():
        _number, names, path = line.split(":", 2)
        for name in names.split(","):
            paths[name] = path
    return paths


def _inside(mount: Path, root: str, path: str) -> Path:
    """A group's directory: its path is told from the hierarchy's root, of which the mount may show only a part."""
    relative = path[len(root) :] if root != "/" and path.startswith(root) else path
    directory = mount / relative.lstrip("/")
    return directory if directory.is_dir() else mount


def _words(file: Path) -> set[str]:
    try:
        return set(file.read_text().split())
    except OSError:
        return set()


def place(hierarchies: list[Hierarchy], name: str) -> tuple[list[Placed], list[str]]:
    """Makes the directory `name` of this installation in each hierarchy. Returns them and what could not be had."""
    placed: list[Placed] = []
    problems: list[str] = []
    for hierarchy in hierarchies:
        try:
            placed.append(_place_one(hierarchy, name))
        except OSError as error:
            kinds = ", ".join(sorted(hierarchy.kinds))
            problems.append(f"control groups for {kinds} under {hierarchy.own}: {error.strerror or error}")
    return placed, problems


def _place_one(hierarchy: Hierarchy, name: str) -> Placed:
    if hierarchy.version == 1:
        base = hierarchy.own / name
        base.mkdir(exist_ok=True)
        return Placed(1, hierarchy.kinds, base)
    wanted = sorted(hierarchy.kinds - {"kill", "cpuacct"})
    reasons: list[OSError] = []
    # The own group keeps outer limits in force; the root is what is left where the own group may not be divided.
    for parent in dict.fromkeys((hierarchy.own, hierarchy.mount)):
        try:
            _enable(parent, wanted)
            base = parent / name
            base.mkdir(exist_ok=True)
            _enable(base, wanted)
            return Placed(2, hierarchy.kinds, base)
        except OSError as error:
            reasons.append(error)
    raise reasons[-1]


def _enable(group: Path, controllers: list[str]) -> None:
    missing = [name for name in controllers if name not in _words(group / "cgroup.subtree_control")]
    if not missing:
        return
    line = " ".join(f"+{name}" for name in missing)
    try:
        (group / "cgroup.subtree_control").write_text(line)
    except OSError:
        # A group with processes of its own cannot hand controllers on. One that was delegated to us is ours to arrange.
        if not os.access(group / "cgroup.procs", os.W_OK) or group.stat().st_uid != os.geteuid():
            raise
        leaf = group / _LEAF
        leaf.mkdir(exist_ok=True)
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid)
        (group / "cgroup.subtree_control").write_text(line)


def groups_below(base: Path) -> list[Path]:
    """Every group under `base` and itself, deepest first."""
    return [Path(directory) for directory, _names, _files in os.walk(base, topdown=False)]


def kill_group(group: Path, *, patience: float = 10.0) -> int:
    """Kills everything in `group` until it is empty. Returns how many processes there were.

    Raises `TimeoutError` where something stays, for example a process stuck in the kernel.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + patience
    with contextlib.suppress(OSError):
        (group / "cgroup.kill").write_text("1")
    with contextlib.suppress(OSError):
        # No new forks while the members are gone through.
        (group / "pids.max").write_text("0")
    pause = 0.001
    while pids := _members(group):
        for pid in pids:
            killed.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {sorted(pids)[:10]} in {group} do not end")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return len(killed)


def _members(group: Path) -> set[int]:
    try:
        return {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    except FileNotFoundError:
        return set()


def remove_tree(base: Path, *, patience: float = 10.0) -> tuple[int, int]:
    """Kills and removes everything under `base` and itself. Returns (groups removed, processes killed)."""
    removed = killed = 0
    for group in groups_below(base):
        killed += kill_group(group, patience=patience)
        removed += remove_group(group, patience=patience)
    return removed, killed


def remove_group(group: Path, *, patience: float = 2.0) -> int:
    """Removes one empty group; for a moment after its last process ended the kernel may still say busy."""
    deadline = time.monotonic() + patience
    with contextlib.suppress(OSError):
        # Version 1: pages of files that the group read are given back now, not when memory runs short.
        (group / "memory.force_empty").write_text("0")
    while True:
        try:
            group.rmdir()
        except FileNotFoundError:
            return 0
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)
        else:
            return 1
