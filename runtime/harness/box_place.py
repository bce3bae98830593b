"""The run's box session: no network, no key, and nothing of the machine but what the agent's policy mounts."""

import io
import tarfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from portway.rpc.errors import InvalidInput, PortwayError, Unavailable
from portway.runtime.harness.failures import CONFIG, LOST, NO_PLACE, excerpt
from portway.runtime.harness.places import BridgeWay, Files, Folders, Link, ModelUrls
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
        await self._shell("the files of the run could not be written", _WRITE, _archive(files))

    async def resolve(self, directory: str) -> str:
        # The session is the boundary: whatever directory it has, the program may be in.
        return directory or WORK

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
        command = BoxCommand(launch.argv, launch.working_directory, environment, launch.timeout)
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
            await self._shell("", 'rm -rf "$2"', b"")

    async def _shell(self, what: str, script: str, data: bytes) -> None:
        argv = ("/bin/sh", "-c", script, "sh", ROOT, self.folders.run)
        errors, end = Errors(), BoxExit(BoxEnding.UNSPECIFIED)
        try:
            async with self._host.box.start(BoxCommand(argv, "/", {"PATH": _PATH}, _SECONDS)) as program:
                await program.write(data)
                await program.close_input()
                async for event in program.output():
                    match event:
                        case BoxExit():
                            end = event
                        case BoxOutput(said):
                            errors.take(said)
        except Unavailable as error:
            raise RunFailure(LOST, f"the box cannot be used now: {error.message}", retryable=True) from error
        if end.code != 0:
            raise RunFailure(
                NO_PLACE,
                f"{what} in the session (it needs /bin/sh, mkdir and tar, and a workspace that can be written to): "
                f"{excerpt(errors.text()) or end}",
            )


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
            if isinstance(content, Link):
                entry.type, entry.linkname = tarfile.SYMTYPE, content.target
                archive.addfile(entry)
            else:
                entry.size, entry.mode = len(content), 0o600
                archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
