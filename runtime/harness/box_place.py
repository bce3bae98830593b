"""The run's box session: no network, no key, and nothing of the machine but what the agent's policy mounts."""

import asyncio
import io
import tarfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from portway.rpc.errors import InvalidInput, PortwayError, Unavailable
from portway.runtime.harness.failures import CONFIG, LOST, NO_PLACE, excerpt
from portway.runtime.harness.places import BridgeWay, FileRefused, Files, Folders, Link, MadeFile, ModelUrls
from portway.runtime.harness.program import Errors, Launch
from portway.runtime.sdk import (
    BoxCommand,
    BoxEnding,
    BoxExit,
    BoxOutput,
    BoxProgram,
    HostApi,
    RunContext,
    RunFailure,
)

WORK = "/workspace"
ROOT = f"{WORK}/.harness"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS = 60.0
# A run that was killed leaves its folder; a day later nothing can still use it.
_WRITE = (
    'umask 077; mkdir -p "$1/runs" "$1/home" "$2" || exit 1; '
    'find "$1/runs" -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf {} + 2>/dev/null; exec tar -xf - -C "$1"'
)
_RECEIVE = 'umask 077; mkdir -p "$(dirname "$2")" && exec cat > "$2"'
# Names end with zero bytes: any other may be in one.
_LIST = 'cd "$2" 2>/dev/null || exit 0; exec find . -type f -print0'
_LIST_NEWER = 'cd "$2" 2>/dev/null || exit 0; exec find . -type f -newer "$3" -print0'
_MAX_LISTED = 256 * 1024


class BoxPlace:
    """Implements `Place`."""

    def __init__(self, ctx: RunContext, host: HostApi) -> None:
        self.folders = Folders(f"{ROOT}/runs/{ctx.run_id}", f"{ROOT}/home", WORK)
        self.skills: Sequence[tuple[str, str]] = tuple(
            (one.name, f"{WORK}/.skills/{one.name}") for one in ctx.resources.skills
        )
        self._name = ctx.run_id[-24:].lower().replace("_", "-").lstrip("-")
        self._host = host

    async def write(self, files: Files) -> None:
        await self._shell("the files of the run could not be written", _WRITE, _archive(files), self.folders.run)

    async def resolve(self, directory: str) -> str:
        # The session is the boundary: whatever directory it has, the program may be in.
        if directory and directory != WORK:
            await self._shell(f"there is no directory {directory!r}", 'cd "$2"', b"", directory)
        return directory or WORK

    async def receive(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        try:
            await self._shell(f"{path} could not be written", _RECEIVE, pieces, path)
        except RunFailure as failure:
            if failure.error.code != NO_PLACE:
                raise
            raise FileRefused(failure.error.message) from failure

    @asynccontextmanager
    async def made_files(self, folder: str, since: str, most: int) -> AsyncIterator[Sequence[MadeFile]]:
        try:
            script = _LIST_NEWER if since else _LIST
            listed = await self._shell("the files that it made could not be listed", script, b"", folder, since)
        except RunFailure as failure:
            raise FileRefused(failure.error.message) from failure
        # What was cut off in the middle of a name is no name.
        names = sorted(one for one in listed.decode(errors="surrogateescape").split("\0")[:-1] if _is_shown(one))
        yield [_BoxFile(self._host, one.removeprefix("./"), f"{folder}/{one}") for one in names[:most]]

    @asynccontextmanager
    async def models(self) -> AsyncIterator[ModelUrls]:
        async with self._host.box.serve_models(f"run-{self._name}") as place:
            yield ModelUrls(place.openai_base_url, place.anthropic_base_url)

    @asynccontextmanager
    async def bridge(self) -> AsyncIterator[BridgeWay | None]:
        async with self._host.box.serve_bridge(f"mcp-{self._name}") as place:
            yield BridgeWay(place.url, place.path)

    @asynccontextmanager
    async def start(self, launch: Launch) -> AsyncIterator[BoxProgram]:
        environment = {"PATH": _PATH, "TMPDIR": "/tmp", **launch.environment}
        # What waits for people takes its time; the runner's own clock ends it.
        limit = 0.0 if launch.may_wait else launch.timeout
        command = BoxCommand(launch.argv, launch.working_directory, environment, limit, launch.may_wait)
        try:
            async with self._host.box.start(command) as program:
                yield program
        except Unavailable as error:
            raise RunFailure(LOST, f"the box session was lost: {error.message}", retryable=True) from error
        except InvalidInput as error:
            # Its longest command, its directory: what the session says about the configuration.
            raise RunFailure(CONFIG, f"the session does not take the program as it is configured: {error}") from error

    async def remove(self) -> None:
        with suppress(PortwayError, RunFailure):
            await self._shell("", 'rm -rf "$2"', b"", self.folders.run)

    async def _shell(self, what: str, script: str, data: bytes | AsyncIterator[bytes], *words: str) -> bytes:
        """Runs a script with the root and these words; answers the beginning of its output. Raises `RunFailure`."""
        argv = ("/bin/sh", "-c", script, "sh", ROOT, *words)
        errors, end, output = Errors(), BoxExit(BoxEnding.UNSPECIFIED), bytearray()
        try:
            async with self._host.box.start(BoxCommand(argv, "/", {"PATH": _PATH}, _SECONDS)) as program:
                async with _fed(program, data) as feeding:
                    async for event in program.output():
                        match event:
                            case BoxExit():
                                end = event
                            case BoxOutput(said, of_errors=True):
                                errors.take(said)
                            case BoxOutput(said):
                                output += said[: _MAX_LISTED - len(output)]
                    if end.code == 0:
                        await feeding
        except Unavailable as error:
            raise RunFailure(LOST, f"the box cannot be used now: {error.message}", retryable=True) from error
        if end.code != 0:
            raise RunFailure(
                NO_PLACE,
                f"{what} in the session (it needs /bin/sh, mkdir and tar, and a workspace that can be written to): "
                f"{excerpt(errors.text()) or end}",
            )
        return bytes(output)


@asynccontextmanager
async def _fed(program: BoxProgram, data: bytes | AsyncIterator[bytes]) -> AsyncIterator["asyncio.Future[None]"]:
    """Input while the block reads the output: without that much of it would not be taken."""

    async def feed() -> None:
        try:
            if isinstance(data, bytes):
                await program.write(data)
                return
            async for piece in data:
                await program.write(piece)
        finally:
            await program.close_input()

    feeding = asyncio.ensure_future(feed())
    try:
        yield feeding
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


def _is_shown(name: str) -> bool:
    return not any(one.startswith(".") for one in name.removeprefix("./").split("/"))


@dataclass(frozen=True, slots=True)
class _BoxFile:
    """Implements `MadeFile`."""

    host: HostApi
    name: str
    path: str

    async def read(self) -> AsyncIterator[bytes]:
        command = BoxCommand(("cat", "--", self.path), "/", {"PATH": _PATH}, _SECONDS)
        errors = Errors()
        async with self.host.box.start(command) as program:
            await program.close_input()
            async for event in program.output():
                match event:
                    case BoxExit(code=0):
                        return
                    case BoxExit():
                        raise FileRefused(f"it cannot be read: {excerpt(errors.text())}")
                    case BoxOutput(said, of_errors=True):
                        errors.take(said)
                    case BoxOutput(said):
                        yield said


@asynccontextmanager
async def open_session(ctx: RunContext, host: HostApi) -> AsyncIterator[BoxPlace]:
    place = BoxPlace(ctx, host)
    try:
        yield place
    finally:
        await place.remove()


def _archive(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path.removeprefix(f"{ROOT}/"))
            entry.mtime = int(time.time())
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o700
                archive.addfile(entry)
            elif isinstance(content, Link):
                entry.type, entry.linkname = tarfile.SYMTYPE, content.target
                archive.addfile(entry)
            else:
                entry.size, entry.mode = len(content), 0o600
                archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
