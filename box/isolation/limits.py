"""What a session and each of its processes may use."""

import resource
from dataclasses import dataclass

KIBI = 1024
MEBI = 1024 * KIBI
RESERVED_BYTES = 1024 * MEBI

_RLIMIT_NAMES = {
    "core": resource.RLIMIT_CORE,
    "nofile": resource.RLIMIT_NOFILE,
    "fsize": resource.RLIMIT_FSIZE,
    "nproc": resource.RLIMIT_NPROC,
    "memlock": resource.RLIMIT_MEMLOCK,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
    "nice": resource.RLIMIT_NICE,
    "rtprio": resource.RLIMIT_RTPRIO,
    "as": resource.RLIMIT_AS,
    "data": resource.RLIMIT_DATA,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one session. Bytes, thousandths of a processor, counts."""

    cpu_millis: int = 1000
    memory_bytes: int = 512 * MEBI
    pids: int = 256
    disk_bytes: int = 512 * MEBI
    inodes: int = 65_536
    temporary_bytes: int = 64 * MEBI
    open_files: int = 4096
    # What the box itself runs beside the session's processes: bubblewrap, its init, sandboxes that wait.
    own_processes: int = 32


def rlimits(limits: Limits, *, bound_memory: bool) -> dict[str, int]:
    """Per-process bounds by name, for the launcher to set.

    Data and address space are bounded only where no control group bounds memory: they count for each process alone.
    What is reserved and not written to is no data; programs reserve a lot, so the address space has room beyond.
    """
    bounds = {
        # Not 0: where the machine hands core dumps to a program of its own, only 1 keeps that program from being run.
        "core": 1,
        "nofile": limits.open_files,
        "fsize": max(limits.disk_bytes, limits.temporary_bytes),
        "nproc": limits.pids + limits.own_processes,
        "memlock": 64 * KIBI,
        "sigpending": max(256, limits.pids),
        "msgqueue": 0,
        "nice": 0,
        "rtprio": 0,
    }
    if bound_memory:
        bounds["data"] = limits.memory_bytes
        bounds["as"] = limits.memory_bytes + RESERVED_BYTES
    return bounds


def apply_rlimits(bounds: dict[str, int]) -> None:
    """Sets soft and hard bounds of this process; one that is lower already stays."""
    for name, wanted in bounds.items():
        kind = _RLIMIT_NAMES[name]
        _soft, hard = resource.getrlimit(kind)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (value, value))
