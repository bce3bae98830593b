"""Files of a message, read for a service."""

from dataclasses import dataclass

from portway.runtime.sdk.host.api import HostApi
from portway.runtime.sdk.service.failures import ServiceFailure
from portway.runtime.sdk.types.content import ArtifactRef, AudioPart, FilePart, ImagePart, VideoPart
from portway.runtime.sdk.types.context import RunContext

MAX_FILES = 10
_KINDS: dict[type, str] = {ImagePart: "image", AudioPart: "audio", VideoPart: "video", FilePart: "document"}
_PREFIXES = {"image/": "image", "audio/": "audio", "video/": "video"}


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file with its bytes; `kind` is `image`, `audio`, `video` or `document`."""

    artifact_id: str
    name: str
    mime_type: str
    kind: str
    data: bytes


async def read_attachments(ctx: RunContext, host: HostApi, max_bytes: int) -> list[Attachment]:
    """All files of the message, each once. Raises `ServiceFailure` where they are too many or one is too large."""
    found = _refs(ctx)
    if len(found) > MAX_FILES:
        raise ServiceFailure("service.too_large", f"the message has {len(found)} files; at most {MAX_FILES} are sent")
    read = []
    for artifact, kind in found.values():
        if artifact.size > max_bytes:
            raise _too_large(artifact, max_bytes)
        data = bytearray()
        async for piece in host.artifacts.open(artifact.artifact_id):
            data += piece
            if len(data) > max_bytes:
                raise _too_large(artifact, max_bytes)
        mime_type = artifact.mime_type or "application/octet-stream"
        read.append(Attachment(artifact.artifact_id, _name(artifact), mime_type, kind, bytes(data)))
    return read


def _refs(ctx: RunContext) -> dict[str, tuple[ArtifactRef, str]]:
    found: dict[str, tuple[ArtifactRef, str]] = {}
    for part in ctx.input.contents:
        content = part.content
        if isinstance(content, ImagePart | AudioPart | VideoPart | FilePart):
            found[content.artifact.artifact_id] = (content.artifact, _KINDS[type(content)])
    for artifact in ctx.input.attachments:
        kind = next((kind for prefix, kind in _PREFIXES.items() if artifact.mime_type.startswith(prefix)), "document")
        found.setdefault(artifact.artifact_id, (artifact, kind))
    return found


def _name(artifact: ArtifactRef) -> str:
    """A name that fits into a header of a form."""
    name = "".join(character for character in artifact.name if character.isprintable() and character not in '"\\/')
    return name[-200:] or f"{artifact.artifact_id}.bin"


def _too_large(artifact: ArtifactRef, max_bytes: int) -> ServiceFailure:
    message = (
        f"the file {artifact.name or artifact.artifact_id} is larger than {max_bytes:,} bytes; "
        "send a smaller one, or raise max_file_mb in the agent's configuration"
    )
    return ServiceFailure("service.too_large", message)
