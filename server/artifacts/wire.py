"""Between artifacts and their messages."""

from portway.server.artifacts.types import Artifact, NewArtifact
from portway.server.provenance.mark import source_of_artifact
from portway.v1 import content_pb2


def artifact_ref(artifact: Artifact | NewArtifact) -> content_pb2.ArtifactRef:
    """What everybody may see of an artifact: no path and no storage key."""
    ref = content_pb2.ArtifactRef(
        artifact_id=artifact.artifact_id,
        mime_type=artifact.mime_type,
        name=artifact.name,
        size=artifact.size,
        sha256=artifact.sha256,
        summary=artifact.summary,
    )
    if artifact.expire_time:
        ref.expire_time.FromMicroseconds(artifact.expire_time)
    source = source_of_artifact(artifact.creator, artifact.run_id)
    if source is not None:
        ref.provenance.CopyFrom(source)
    return ref
