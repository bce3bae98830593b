"""The machine that is measured: its cores, and who gets which; versions; the disk."""

import os
import platform
import sqlite3
import statistics
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("grpcio", "protobuf", "uvloop")


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where."""

    server: frozenset[int]
    client: frozenset[int]

    def __str__(self) -> str:
        return f"servers on {_listed(self.server)}, clients on {_listed(self.client)}"


def available() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def all_but_one() -> Cores:
    """The last core is the client's, the others the servers'."""
    cores = available()
    return Cores(frozenset(cores[:-1] or cores), frozenset(cores[-1:]))


def servers_on(count: int) -> Cores | None:
    """The first `count` cores are the servers'. The clients' are the same for one and for two; None with too few."""
    cores = available()
    if len(cores) <= count:
        return None
    return Cores(frozenset(cores[:count]), frozenset(cores[2:] or cores[1:]))


def pin(pid: int, cores: frozenset[int]) -> None:
    """Keep a process, its threads and everything below it on these cores."""
    for process in family(pid):
        _pin_threads(process, cores)


def pin_self(cores: frozenset[int]) -> None:
    """Keep this process on these cores, but not what it has started."""
    _pin_threads(os.getpid(), cores)


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for process in found:
        for thread in _threads(process):
            try:
                text = Path(f"/proc/{process}/task/{thread}/children").read_text(encoding="ascii")
            except (FileNotFoundError, ProcessLookupError):
                continue
            found += [int(child) for child in text.split()]
    return found


def memory(pid: int) -> tuple[float, float]:
    """PSS and RSS in MiB."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0]) / 1024
    return fields["Pss"], fields["Rss"]


def describe(folder: Path) -> dict[str, str]:
    """What somebody else needs to compare figures. `folder` is on the disk that is measured."""
    load = os.getloadavg()[0]
    return {
        "processor": _processor(),
        "cores": str(len(available())),
        "load": f"{load:.1f}" + (" (the machine is busy with other work: expect worse figures)" if load > 1 else ""),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "sqlite": sqlite3.sqlite_version,
        "disk": f"{folder}: one fsync takes {fsync_seconds(folder) * 1000:.2f} ms",
    }


def fsync_seconds(folder: Path) -> float:
    """Median of appending a page and having it on disk: below this no acknowledged write can come."""
    taken = []
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(50):
            begun = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def _pin_threads(pid: int, cores: frozenset[int]) -> None:
    for thread in _threads(pid):
        try:
            os.sched_setaffinity(thread, cores)
        except ProcessLookupError:
            continue


def _threads(pid: int) -> list[int]:
    try:
        return [int(entry) for entry in os.listdir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _listed(cores: frozenset[int]) -> str:
    return f"core{'s' if len(cores) > 1 else ''} {', '.join(str(core) for core in sorted(cores))}"
