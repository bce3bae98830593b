"""What a container of a session is: every bound and refusal that an engine can be told, as one request to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portway.box.backends.engine.keeper import FOLDER, SOCKETS
from portway.box.backends.engine.kit import INSIDE, NOTHING, PRELOAD, Kit
from portway.box.backends.types import TEMPORARY, WORKSPACE, HostMount, MountMode, SandboxSpec
from portway.box.isolation.limits import MEBI, rlimits
from portway.box.isolation.seccomp import engine_profile

INSTALLATION_LABEL, SESSION_LABEL = "portway.box.installation", "portway.box.session"
SHARED_MEMORY_BYTES = 64 * MEBI
TEMPORARY_INODES = 16_384
# The last one is given up before the first command: it is what taking rights away for good takes.
CAPABILITIES = ("KILL", "SETGID", "SETUID", "SETPCAP")
_CPU_PERIOD = 100_000
_HIDDEN = (
    "/proc/acpi", "/proc/asound", "/proc/cmdline", "/proc/dynamic_debug", "/proc/kallsyms", "/proc/kcore",
    "/proc/key-users", "/proc/keys", "/proc/kmsg", "/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags",
    "/proc/latency_stats", "/proc/modules", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
    "/sys/block", "/sys/bus", "/sys/class", "/sys/dev", "/sys/devices/virtual/powercap", "/sys/firmware",
    "/sys/hypervisor", "/sys/kernel", "/sys/module", "/sys/power",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# Of the limits that each process has, those that an engine sets for the keeper too; a command's are set by the keeper.
_ENGINE_LIMITS = ("core", "nofile", "nproc", "memlock", "msgqueue", "nice", "rtprio")
_PLACEHOLDER = "ro,nosuid,nodev,noexec,size=4k,nr_inodes=8,mode=0755"


@dataclass(frozen=True, slots=True)
class Plan:
    """A session's container. `late`: mounts are put in place by the box afterwards, the engine makes only room.

    `folder` is the workspace as a directory of the machine, `None` where it is memory or comes late.
    """

    spec: SandboxSpec
    installation: str
    image_id: str
    volumes: tuple[str, ...]
    variables: tuple[str, ...]
    kit: Kit
    line: Path
    user: int
    late: bool
    folder: str | None
    podman_profile: Path | None = None


def container_config(plan: Plan) -> Mapping[str, Any]:
    """The body of the request that makes it."""
    spec = plan.spec
    return {
        "Image": plan.image_id,
        "Entrypoint": list(plan.kit.command),
        "Cmd": [],
        "User": "0:0",
        "WorkingDir": "/",
        "Env": ["PATH=/usr/bin:/bin", *_taken_away(plan)],
        "Hostname": "sandbox",
        "Tty": False,
        "OpenStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGKILL",
        "Labels": {INSTALLATION_LABEL: plan.installation, SESSION_LABEL: spec.key},
        "HostConfig": _host_config(plan),
    }


def _taken_away(plan: Plan) -> list[str]:
    """The image's own variables: Docker forgets a name without a value, Podman would take it from its own."""
    empty = "=" if plan.podman_profile else ""
    return [f"{name}{empty}" for name in plan.variables if name and name != "PATH"]


def _host_config(plan: Plan) -> dict[str, Any]:
    spec, limits = plan.spec, plan.spec.limits
    profile = str(plan.podman_profile) if plan.podman_profile else engine_profile()
    bounds = rlimits(limits, bound_memory=False)
    return {
        # What the keeper leaves when the box is gone is gone with it.
        "AutoRemove": True,
        "RestartPolicy": {"Name": "no"},
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": ["no-new-privileges", f"seccomp={profile}"],
        "ReadonlyRootfs": spec.read_only_root,
        "MaskedPaths": list(_HIDDEN),
        "ReadonlyPaths": list(_READ_ONLY),
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,
        "PidsLimit": limits.pids + limits.own_processes,
        "CpuPeriod": _CPU_PERIOD,
        "CpuQuota": max(1000, limits.cpu_millis * _CPU_PERIOD // 1000),
        "Ulimits": [{"Name": name, "Soft": bounds[name], "Hard": bounds[name]} for name in _ENGINE_LIMITS],
        # Nothing leads out of it. A session with a network has names answered by the box at its own loopback.
        "NetworkMode": "none",
        "Dns": ["127.0.0.1"],
        "DnsSearch": ["."],
        "Sysctls": {
            # The only way to its ports from outside is through the box, whatever their number.
            "net.ipv4.ip_unprivileged_port_start": "0",
            # As in every new network namespace: engines open echo requests to everybody in theirs.
            "net.ipv4.ping_group_range": "1 0",
        },
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "ShmSize": SHARED_MEMORY_BYTES,
        "LogConfig": {"Type": "none", "Config": {}},
        "Tmpfs": _as_podman_takes_it(_memory_mounts(plan)) if plan.podman_profile else _memory_mounts(plan),
        "Mounts": _binds(plan),
    }


def _memory_mounts(plan: Plan) -> dict[str, str]:
    spec, limits = plan.spec, plan.spec.limits
    mounts = {volume: _PLACEHOLDER for volume in plan.volumes}
    mounts[TEMPORARY] = f"exec,nosuid,nodev,size={limits.temporary_bytes},nr_inodes={TEMPORARY_INODES},mode=1777"
    mounts[SOCKETS] = "nosuid,nodev,noexec,size=64k,nr_inodes=256,mode=0755"
    if plan.late:
        mounts[WORKSPACE] = _PLACEHOLDER
    elif plan.folder is None:
        owner = f"uid={plan.user},gid={plan.user}"
        mounts[WORKSPACE] = f"exec,nosuid,nodev,size={limits.disk_bytes},nr_inodes={limits.inodes},mode=0700,{owner}"
    for mount in spec.mounts:
        inside = mount.target.startswith((f"{WORKSPACE}/", f"{TEMPORARY}/"))
        if mount.mode is MountMode.NONE or (plan.late and not inside):
            mounts[mount.target] = _PLACEHOLDER
    return mounts


def _as_podman_takes_it(mounts: dict[str, str]) -> dict[str, str]:
    """It refuses a bound on the number of files; the size bounds that too, less tightly."""
    return {
        place: ",".join(option for option in options.split(",") if not option.startswith("nr_inodes="))
        for place, options in mounts.items()
    }


def _binds(plan: Plan) -> list[dict[str, Any]]:
    binds = [_bind(str(plan.line), FOLDER, writable=False), _bind(str(plan.kit.folder), INSIDE, writable=False)]
    binds.append(_bind(str(plan.kit.folder / NOTHING), PRELOAD, writable=False))
    if plan.late:
        return binds
    if plan.folder is not None:
        binds.append(_bind(plan.folder, WORKSPACE, writable=True))
    binds += [_bind_of(mount) for mount in plan.spec.mounts if mount.mode is not MountMode.NONE]
    return binds


def _bind_of(mount: HostMount) -> dict[str, Any]:
    return _bind(mount.source, mount.target, writable=mount.mode is MountMode.READ_WRITE)


def _bind(source: str, target: str, *, writable: bool) -> dict[str, Any]:
    options = {"Propagation": "rprivate", "NonRecursive": True}
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": not writable, "BindOptions": options}
