"""Sessions between the contract and this folder's types."""

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from portway.box.backends.types import HeldThing, MountMode, Network
from portway.box.sessions.compatibility import path_of
from portway.box.sessions.types import (
    MountRequest,
    NetworkPolicy,
    Session,
    SessionFigures,
    SessionRef,
    SessionRequest,
    SessionSkill,
    SessionSpec,
    SessionState,
)
from portway.rpc.errors import InvalidInput
from portway.v1 import session_pb2 as pb

_NETWORK_OF = {
    pb.NETWORK_MODE_OFF: Network.OFF,
    pb.NETWORK_MODE_ON: Network.ON,
    pb.NETWORK_MODE_ALLOW_LIST: Network.ALLOW_LIST,
}
_NETWORK_TO = {mode: number for number, mode in _NETWORK_OF.items()}
_MOUNT_OF = {
    pb.MOUNT_MODE_UNSPECIFIED: MountMode.READ_ONLY,
    pb.MOUNT_MODE_READ_ONLY: MountMode.READ_ONLY,
    pb.MOUNT_MODE_READ_WRITE: MountMode.READ_WRITE,
    pb.MOUNT_MODE_NONE: MountMode.NONE,
}
_MOUNT_TO = {
    MountMode.READ_ONLY: pb.MOUNT_MODE_READ_ONLY,
    MountMode.READ_WRITE: pb.MOUNT_MODE_READ_WRITE,
    MountMode.NONE: pb.MOUNT_MODE_NONE,
}
_STATE_TO = {
    SessionState.CREATING: pb.SESSION_STATE_CREATING,
    SessionState.READY: pb.SESSION_STATE_READY,
    SessionState.DELETING: pb.SESSION_STATE_DELETING,
    SessionState.FAILED: pb.SESSION_STATE_FAILED,
}
_LONGEST_SECONDS = 10 * 365 * 86_400


def seconds_of(duration: Duration, field: str) -> float:
    seconds = duration.seconds + duration.nanos / 1e9
    if not 0 <= seconds <= _LONGEST_SECONDS:
        raise InvalidInput.field(field, "must be between 0 and ten years")
    return seconds


def duration(seconds: float) -> Duration:
    nanos = round(seconds * 1e9)
    return Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def timestamp(seconds: float) -> Timestamp:
    nanos = round(seconds * 1e9)
    return Timestamp(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def request_from(spec: pb.SessionSpec) -> SessionRequest:
    limits = spec.limits
    return SessionRequest(
        profile=spec.profile,
        image=spec.image,
        workspace_source=spec.workspace_source,
        extra_mounts=tuple(MountRequest(one.source, one.target, _MOUNT_OF[one.mode]) for one in spec.extra_mounts),
        working_directory=spec.working_directory,
        env=dict(spec.env),
        network=_network_from(spec),
        cpu_millis=limits.cpu_millis if limits.HasField("cpu_millis") else None,
        memory_bytes=limits.memory_bytes if limits.HasField("memory_bytes") else None,
        pids=limits.pids if limits.HasField("pids") else None,
        disk_bytes=limits.disk_bytes if limits.HasField("disk_bytes") else None,
        concurrent_commands=limits.concurrent_commands if limits.HasField("concurrent_commands") else None,
        command_timeout=_optional_seconds(limits, "command_timeout", "spec.limits.command_timeout"),
        read_only_root=spec.read_only_root if spec.HasField("read_only_root") else None,
        ttl=_optional_seconds(spec, "ttl", "spec.ttl"),
        persistent=spec.persistent,
        labels=dict(spec.labels),
        default_timeout=_optional_seconds(limits, "default_timeout", "spec.limits.default_timeout"),
        require_probes=tuple(sorted(set(spec.require_probes))),
        skills=skills_from(spec.skills, "spec.skills"),
    )


def skills_from(skills: Iterable[pb.SessionSkill], field: str) -> tuple[SessionSkill, ...]:
    found: dict[str, SessionSkill] = {}
    for number, one in enumerate(skills):
        if one.name in found:
            raise InvalidInput.field(f"{field}[{number}].name", f"{one.name!r} is there twice")
        found[one.name] = SessionSkill(one.name, one.digest, one.writable)
    return tuple(found[name] for name in sorted(found))


def skill_to(skill: SessionSkill) -> pb.SessionSkill:
    return pb.SessionSkill(name=skill.name, digest=skill.digest, writable=skill.writable)


def _optional_seconds(message: pb.SessionSpec | pb.SessionLimits, name: str, field: str) -> float | None:
    return seconds_of(getattr(message, name), field) if message.HasField(name) else None  # type: ignore[arg-type]


def _network_from(spec: pb.SessionSpec) -> NetworkPolicy | None:
    mode = _NETWORK_OF.get(spec.network.mode)
    if mode is None:
        if spec.network.allow:
            raise InvalidInput.field("spec.network.allow", "needs the mode ALLOW_LIST")
        return None
    if spec.network.allow and mode is not Network.ALLOW_LIST:
        raise InvalidInput.field("spec.network.allow", "needs the mode ALLOW_LIST")
    return NetworkPolicy(mode, tuple(spec.network.allow))


def session_to(session: Session, figures: SessionFigures | None = None) -> pb.Session:
    made = pb.Session(
        session_id=session.ref.session_id,
        workspace_id=session.ref.workspace_id,
        spec=_spec_to(session.spec),
        state=_STATE_TO[session.state],
        reason=session.reason,
        backend=session.backend,
        create_time=timestamp(session.create_time),
        last_use_time=timestamp(session.last_use_time),
        running_count=session.running_count,
        unenforced_limits=session.unenforced_limits,
        locked_fields=[path_of(name) for name in session.spec.locked],
    )
    if figures is not None:
        made.usage.CopyFrom(usage_to(figures))
    return made


def ref_to(ref: SessionRef) -> pb.Session:
    return pb.Session(session_id=ref.session_id, workspace_id=ref.workspace_id)


def usage_to(figures: SessionFigures) -> pb.SessionUsage:
    usage = figures.usage
    return pb.SessionUsage(
        memory_bytes=usage.memory_bytes,
        disk_bytes=usage.disk_bytes,
        pids=usage.pids,
        cpu_time=duration(usage.cpu_seconds) if usage.cpu_seconds is not None else None,
        peak_memory_bytes=usage.peak_memory,
        command_count=figures.commands,
        running_count=figures.session.running_count,
        network_sent_bytes=usage.sent_bytes,
        network_received_bytes=usage.received_bytes,
        network_connection_count=usage.connection_count,
        network_refused_count=usage.refused_count,
    )


def held_to(thing: HeldThing) -> pb.HeldItem:
    since = timestamp(thing.since) if thing.since else None
    return pb.HeldItem(kind=thing.kind, id=thing.name, state=thing.state, create_time=since)


def _spec_to(spec: SessionSpec) -> pb.SessionSpec:
    return pb.SessionSpec(
        profile=spec.profile,
        image=spec.image,
        workspace_source=spec.workspace_source,
        extra_mounts=[
            pb.Mount(source=one.source, target=one.target, mode=_MOUNT_TO[one.mode]) for one in spec.extra_mounts
        ],
        working_directory=spec.working_directory,
        env=spec.env,
        network=pb.NetworkPolicy(mode=_NETWORK_TO[spec.network.mode], allow=spec.network.allow),
        limits=pb.SessionLimits(
            cpu_millis=spec.cpu_millis,
            memory_bytes=spec.memory_bytes,
            pids=spec.pids,
            disk_bytes=spec.disk_bytes,
            concurrent_commands=spec.concurrent_commands,
            command_timeout=duration(spec.command_timeout),
            default_timeout=duration(spec.default_timeout),
        ),
        read_only_root=spec.read_only_root,
        ttl=duration(spec.ttl),
        persistent=spec.persistent,
        labels=spec.labels,
        require_probes=spec.require_probes,
        skills=[skill_to(skill) for skill in spec.skills],
    )
