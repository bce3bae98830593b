"""Files that a program leaves for people, handed back as artifacts of the run."""

import mimetypes
from collections.abc import AsyncGenerator, AsyncIterator

from portway.rpc.errors import PortwayError
from portway.runtime.harness.file_names import safe_name
from portway.runtime.harness.places import FileRefused, MadeFile, Place
from portway.runtime.sdk import ArtifactCreated, HostApi, Progress, RunContext, RunResult

FOLDER = "outbox"
MAX_FILES = 20
MAX_FILE = 64 * 1024 * 1024
MAX_TOTAL = 128 * 1024 * 1024


async def handed_back(host: HostApi, ctx: RunContext, place: Place, outbox: str) -> AsyncGenerator[RunResult, None]:
    """Files of the folder, by their names, as far as they fit; what is left out is told as progress."""
    if not ctx.permissions.allow("artifacts_write"):
        return
    # A folder of the run holds what this run made; in one that stays, what is newer than its beginning.
    since = "" if outbox.startswith(f"{place.folders.run}/") else f"{place.folders.run}/agent-context.json"
    taken: set[str] = set()
    left = MAX_TOTAL
    async with place.made_files(outbox, since, MAX_FILES + 1) as files:
        for made in files[:MAX_FILES]:
            name = safe_name(made.name, taken)
            pieces = _Bounded(made, min(MAX_FILE, left))
            try:
                mime_type = mimetypes.guess_type(name)[0] or ""
                artifact = await host.artifacts.create(pieces.read(), name=name, mime_type=mime_type)
            except (FileRefused, PortwayError) as error:
                yield Progress(f"the file {name} was left out: {error}"[:500])
                continue
            left -= pieces.size
            yield ArtifactCreated(artifact)
        if len(files) > MAX_FILES:
            yield Progress(f"files were left out: a run hands back at most {MAX_FILES}")


class _Bounded:
    """The bytes of a file as far as they are allowed; raises `FileRefused` beyond."""

    def __init__(self, made: MadeFile, most: int) -> None:
        self.size = 0
        self._made = made
        self._most = most

    async def read(self) -> AsyncIterator[bytes]:
        async for piece in self._made.read():
            self.size += len(piece)
            if self.size > self._most:
                raise FileRefused(
                    f"it has more than {MAX_FILE >> 20} MiB, or all have more than {MAX_TOTAL >> 20} MiB together"
                )
            yield piece
