"""Persistent sessions on disk: what they are, so that they come back with their workspace after a restart."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog

from portway.box.backends.types import MountMode, Network
from portway.box.sessions.types import MountRequest, NetworkPolicy, SessionRef, SessionSkill, SessionSpec

_FILE = "session.json"


@dataclasses.dataclass(frozen=True, slots=True)
class StoredSession:
    ref: SessionRef
    spec: SessionSpec
    create_time: float


def key_of(ref: SessionRef) -> str:
    """The name of a session on disk and in the kernel. Callers' ids never become part of a path."""
    return hashlib.sha256(f"{ref.workspace_id}\0{ref.session_id}".encode()).hexdigest()[:32]


class SessionStore:
    """One file for each persistent session, in the directory that its workspace has."""

    def __init__(self, sessions: Path) -> None:
        self._sessions = sessions

    def save(self, stored: StoredSession) -> None:
        directory = self._sessions / key_of(stored.ref)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        writing = directory / f"{_FILE}.new"
        with writing.open("w", encoding="utf-8") as file:
            json.dump(_to_json(stored), file)
            file.flush()
            os.fsync(file.fileno())
        writing.rename(directory / _FILE)

    def forget(self, ref: SessionRef) -> None:
        """The session does not come back; what else is in its directory is swept by the next start, if not before."""
        (self._sessions / key_of(ref) / _FILE).unlink(missing_ok=True)

    def load(self) -> Iterator[StoredSession]:
        """Every session that can be read; one that cannot is reported and left where it is."""
        if not self._sessions.is_dir():
            return
        for file in sorted(self._sessions.glob(f"*/{_FILE}")):
            try:
                yield _from_json(json.loads(file.read_text(encoding="utf-8")))
            except (OSError, ValueError, KeyError, TypeError) as error:
                structlog.get_logger().error("a stored session cannot be read", file=str(file), error=repr(error))

    def keys(self) -> frozenset[str]:
        """Every key with a stored session, readable or not: its workspace is not to be swept."""
        return frozenset(file.parent.name for file in self._sessions.glob(f"*/{_FILE}"))


def _to_json(stored: StoredSession) -> dict[str, Any]:
    return {
        "ref": dataclasses.asdict(stored.ref),
        "spec": dataclasses.asdict(stored.spec),
        "created": stored.create_time,
    }


def _from_json(document: dict[str, Any]) -> StoredSession:
    spec = dict(document["spec"])
    spec["network"] = NetworkPolicy(Network(spec["network"]["mode"]), tuple(spec["network"]["allow"]))
    spec["extra_mounts"] = tuple(
        MountRequest(mount["source"], mount["target"], MountMode(mount["mode"])) for mount in spec["extra_mounts"]
    )
    for name in ("require_probes", "locked"):
        spec[name] = tuple(spec.get(name, ()))
    spec["skills"] = tuple(SessionSkill(**skill) for skill in spec.get("skills", ()))
    return StoredSession(SessionRef(**document["ref"]), SessionSpec(**spec), float(document["created"]))
