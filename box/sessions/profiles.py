"""Profiles: named sets of values, some of them locked. Order: profile, then request, then the locked values again."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from portway.box.backends.types import MountMode, Network
from portway.box.isolation.limits import MEBI
from portway.box.network.allow_list import entry_of
from portway.box.network.names import BadName
from portway.box.sessions.types import (
    DEFAULT_COMMAND_SECONDS,
    DEFAULT_PROFILE,
    DEFAULT_TTL_SECONDS,
    MountRequest,
    NetworkPolicy,
    SessionRequest,
    SessionSpec,
)
from portway.rpc.errors import InvalidInput

LOCKABLE = (
    "cpu_millis", "memory_bytes", "pids", "disk_bytes", "concurrent_commands", "command_timeout", "default_timeout",
    "ttl", "network", "read_only_root", "mounts_read_only",
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


_BOUNDED = ("cpu_millis", "memory_bytes", "pids", "disk_bytes", "concurrent_commands")


@dataclass(frozen=True, slots=True)
class Profile:
    """Values of a profile. A locked one stands whatever a request says. Times are in seconds.

    `longest_command` is the most that a command of such a session may take, `default_timeout` what one gets that names
    no time. With `mounts_read_only` locked, nothing of the machine is writable inside, not even a workspace of it.
    """

    cpu_millis: int = 1000
    memory_bytes: int = 512 * MEBI
    pids: int = 256
    disk_bytes: int = 512 * MEBI
    concurrent_commands: int = 32
    network: Network = Network.OFF
    allow: tuple[str, ...] = ()
    read_only_root: bool = True
    mounts_read_only: bool = False
    longest_command: float = 600.0
    ttl: float = DEFAULT_TTL_SECONDS
    locked: tuple[str, ...] = ()
    default_timeout: float = DEFAULT_COMMAND_SECONDS

    def __post_init__(self) -> None:
        unknown = sorted(set(self.locked) - set(LOCKABLE))
        if unknown:
            raise ValueError(f"cannot lock {', '.join(unknown)}; lockable: {', '.join(LOCKABLE)}")
        for name in (*_BOUNDED, "longest_command", "default_timeout", "ttl"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` of a profile must be above 0")
        if self.allow and self.network is not Network.ALLOW_LIST:
            raise ValueError("`allow` of a profile needs `network: allow_list`")


BUILT_IN: Mapping[str, Profile] = {
    "offline_readonly": Profile(
        cpu_millis=500,
        memory_bytes=256 * MEBI,
        mounts_read_only=True,
        longest_command=120.0,
        locked=("network", "read_only_root", "mounts_read_only"),
    ),
    DEFAULT_PROFILE: Profile(),
    "network_basic": Profile(network=Network.ON),
    "network_extended": Profile(
        cpu_millis=2000,
        memory_bytes=1024 * MEBI,
        network=Network.ON,
        read_only_root=False,
        longest_command=3600.0,
    ),
}


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that any session may have, whatever its profile and its caller say."""

    cpu_millis: int = 16_000
    memory_bytes: int = 16 * 1024 * MEBI
    pids: int = 8192
    disk_bytes: int = 64 * 1024 * MEBI
    concurrent_commands: int = 256


class ProfileBook:
    """The profiles of this box: the built-in ones, and the operator's over them."""

    def __init__(self, own: Mapping[str, Profile], ceiling: Ceiling) -> None:
        check_names(own)
        self._profiles = {**BUILT_IN, **own}
        self._ceiling = ceiling

    def resolve(self, request: SessionRequest) -> SessionSpec:
        """The spec in force for a request. Raises `InvalidInput` for an unknown profile and for too much."""
        name = request.profile or DEFAULT_PROFILE
        profile = self._profiles.get(name)
        if profile is None:
            raise InvalidInput.field(
                "spec.profile", f"no profile {name!r}; there are {', '.join(sorted(self._profiles))}"
            )
        return SessionSpec(
            profile=name,
            image=request.image,
            workspace_source=request.workspace_source,
            extra_mounts=_mounts(request, profile),
            working_directory=request.working_directory or "/workspace",
            env=dict(request.env),
            network=_network(request, profile),
            cpu_millis=self._bounded("cpu_millis", request, profile),
            memory_bytes=self._bounded("memory_bytes", request, profile),
            pids=self._bounded("pids", request, profile),
            disk_bytes=self._bounded("disk_bytes", request, profile),
            concurrent_commands=self._bounded("concurrent_commands", request, profile),
            command_timeout=_command_timeout(request, profile),
            read_only_root=bool(_chosen("read_only_root", request, profile)),
            ttl=profile.ttl if request.ttl is None or "ttl" in profile.locked else request.ttl,
            persistent=request.persistent,
            labels=dict(request.labels),
            default_timeout=_default_timeout(request, profile),
            require_probes=request.require_probes,
            mounts_read_only=_mounts_are_locked(profile),
            locked=tuple(sorted(profile.locked)),
            skills=request.skills,
        )

    def _bounded(self, name: str, request: SessionRequest, profile: Profile) -> int:
        own, most = int(getattr(profile, name)), int(getattr(self._ceiling, name))
        value = int(_chosen(name, request, profile))
        if value > most and value == own:
            # Nobody asked for it: what a profile gives ends where the box does.
            return most
        if value > most:
            raise InvalidInput.field(f"spec.limits.{name}", f"{value} is more than the {most} that this box allows")
        return value


def check_names(profiles: Iterable[str]) -> None:
    """Raises `ValueError` for a name that no request could give."""
    for name in profiles:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"`profiles`: {name!r} is no name; use letters, digits, `_`, `-`, `.`, at most 64")


def _chosen(name: str, request: SessionRequest, profile: Profile) -> int | bool:
    own: int | bool = getattr(profile, name)
    asked: int | bool | None = getattr(request, name)
    return own if asked is None or name in profile.locked else asked


def _network(request: SessionRequest, profile: Profile) -> NetworkPolicy:
    if request.network is None or "network" in profile.locked:
        policy = NetworkPolicy(profile.network, profile.allow)
    else:
        policy = request.network
    if policy.mode is not Network.ALLOW_LIST:
        return policy
    return NetworkPolicy(policy.mode, _allowed(policy.allow or profile.allow))


def _allowed(entries: Sequence[str]) -> tuple[str, ...]:
    """The entries in their one form and order: two lists that permit the same are the same."""
    if not entries:
        raise InvalidInput.field(
            "spec.network.allow", "needs an entry such as `example.org:443`; for nothing at all ask for the mode OFF"
        )
    found = set()
    for index, entry in enumerate(entries):
        try:
            found.add(entry_of(entry).written())
        except BadName as error:
            raise InvalidInput.field(f"spec.network.allow[{index}]", str(error)) from None
    return tuple(sorted(found))


def _mounts_are_locked(profile: Profile) -> bool:
    return profile.mounts_read_only and "mounts_read_only" in profile.locked


def _mounts(request: SessionRequest, profile: Profile) -> tuple[MountRequest, ...]:
    if not _mounts_are_locked(profile):
        return request.extra_mounts
    return tuple(
        dataclasses.replace(mount, mode=MountMode.READ_ONLY) if mount.mode is MountMode.READ_WRITE else mount
        for mount in request.extra_mounts
    )


def _command_timeout(request: SessionRequest, profile: Profile) -> float:
    if request.command_timeout is None or "command_timeout" in profile.locked:
        return profile.longest_command
    if not 0 < request.command_timeout <= profile.longest_command:
        most = f"{profile.longest_command:g} s"
        raise InvalidInput.field("spec.limits.command_timeout", f"must be above 0 and at most {most}")
    return request.command_timeout


def _default_timeout(request: SessionRequest, profile: Profile) -> float:
    longest = _command_timeout(request, profile)
    if request.default_timeout is None or "default_timeout" in profile.locked:
        return min(profile.default_timeout, longest)
    if not 0 < request.default_timeout <= longest:
        raise InvalidInput.field("spec.limits.default_timeout", f"must be above 0 and at most {longest:g} s")
    return request.default_timeout
