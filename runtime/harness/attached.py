"""The files of a message, put where the program runs: streamed, bounded, and named so that they stay there."""

import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass

from portway.rpc.errors import PortwayError
from portway.runtime.harness.file_names import safe_name
from portway.runtime.harness.places import FileRefused, Place
from portway.runtime.sdk import ArtifactRef, HostApi, RunContext

FOLDER = "files"
MAX_FILES = 20
MAX_FILE = 64 * 1024 * 1024
MAX_TOTAL = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A file of the message. `path` is where the program finds it, or empty, and `left_out` says why."""

    artifact: ArtifactRef
    path: str = ""
    left_out: str = ""


async def place_files(ctx: RunContext, host: HostApi, place: Place) -> Sequence[PlacedFile]:
    """All files of the message, each once. What cannot be placed is listed with the reason; it fails nothing."""
    found = {one.artifact_id: one for one in ctx.input.attachments}
    placed: list[PlacedFile] = []
    taken: set[str] = set()
    left = MAX_TOTAL
    for artifact in found.values():
        why = _refusal(ctx, artifact, sum(1 for one in placed if one.path), left)
        path = f"{place.folders.run}/{FOLDER}/{safe_name(_name(artifact), taken)}"
        if not why:
            why = await _receive(host, place, artifact, path)
        placed.append(PlacedFile(artifact, "" if why else path, why))
        left -= 0 if why else artifact.size
    return placed


def _refusal(ctx: RunContext, artifact: ArtifactRef, count: int, left: int) -> str:
    if not (ctx.permissions.allow("artifacts_read") and ctx.permissions.allow("artifacts_metadata")):
        return "the run may not read files"
    if count >= MAX_FILES:
        return f"a message has at most {MAX_FILES} files here"
    if artifact.size > MAX_FILE:
        return f"larger than {MAX_FILE >> 20} MiB"
    return f"the files have more than {MAX_TOTAL >> 20} MiB together" if artifact.size > left else ""


async def _receive(host: HostApi, place: Place, artifact: ArtifactRef, path: str) -> str:
    """Why it is not there; empty where it is."""
    try:
        await place.receive(path, host.artifacts.open(artifact.artifact_id, length=artifact.size))
    except FileRefused as error:
        return str(error)
    except PortwayError as error:
        return error.message
    return ""


def _name(artifact: ArtifactRef) -> str:
    """Its own, with an extension by its type where it has none."""
    name = artifact.name or artifact.artifact_id
    return name if "." in name else name + (mimetypes.guess_extension(artifact.mime_type) or "")
