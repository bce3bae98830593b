"""Files and large results that the host owns. Their bytes lie in the blob store, by digest."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NewArtifact:
    """`sha256` names the bytes (hex); `expire_time` in microseconds, 0 for never."""

    workspace_id: str
    artifact_id: str
    name: str
    mime_type: str
    kind: str
    size: int
    sha256: str
    summary: str = ""
    event_id: str = ""
    run_id: str = ""
    conversation_id: str = ""
    creator: str = ""
    expire_time: int = 0


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact that can be read."""

    workspace_id: str
    artifact_id: str
    name: str
    mime_type: str
    kind: str
    size: int
    sha256: str
    summary: str
    event_id: str
    run_id: str
    conversation_id: str
    creator: str
    expire_time: int
    create_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactFilter:
    """Which artifacts a page shows; an empty field filters nothing."""

    conversation_id: str = ""
    run_id: str = ""
    event_id: str = ""
