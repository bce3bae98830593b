"""What a backend is told of a session."""

from portway.box.backends.types import SandboxSpec, SkillMount, Steering
from portway.box.isolation.limits import Limits
from portway.box.sessions.environment import session_environment
from portway.box.sessions.judging import JudgedMounts
from portway.box.sessions.store import key_of
from portway.box.sessions.types import SessionRef, SessionSpec

_BYTES_PER_INODE = 8192


def sandbox_spec(
    ref: SessionRef,
    spec: SessionSpec,
    judged: JudgedMounts,
    steering: Steering | None,
    skills: tuple[SkillMount, ...],
) -> SandboxSpec:
    """`judged`, `steering` and `skills` stand for what the spec only names."""
    limits = Limits(
        cpu_millis=spec.cpu_millis,
        memory_bytes=spec.memory_bytes,
        pids=spec.pids,
        disk_bytes=spec.disk_bytes,
        inodes=max(1024, spec.disk_bytes // _BYTES_PER_INODE),
    )
    return SandboxSpec(
        key=key_of(ref),
        limits=limits,
        network=spec.network.mode,
        steering=steering,
        read_only_root=spec.read_only_root,
        persistent=spec.persistent,
        env=tuple(session_environment(spec).items()),
        directory=spec.working_directory,
        mounts=judged.mounts,
        workspace=judged.workspace,
        image=spec.image_reference or spec.image,
        skills=skills,
    )
