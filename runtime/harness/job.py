"""One message for a program, prepared: where it runs, what it finds there, what it resumes."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from portway.runtime.harness.attached import PlacedFile, place_files
from portway.runtime.harness.failures import INPUT_TOO_LONG, NO_PLACE
from portway.runtime.harness.kept import kept_session
from portway.runtime.harness.made import FOLDER as OUTBOX
from portway.runtime.harness.mcp import McpServer, bridge_servers
from portway.runtime.harness.places import Files, Link, ModelUrls, Place, open_place
from portway.runtime.harness.project import Surroundings, context_files
from portway.runtime.harness.settings import HarnessSettings
from portway.runtime.sdk import HostApi, RunContext, RunFailure

# What can be under way to the box before anything of the program is read.
MAX_PROMPT = 448 * 1024


@dataclass(frozen=True, slots=True)
class Job:
    """`directory` is where the program works, `outbox` the folder whose files are handed back. `forgot` says why the
    program's earlier session is not gone back to; empty where it is, or where there was none."""

    ctx: RunContext
    settings: HarnessSettings
    place: Place
    directory: str
    session_id: str
    outbox: str
    run_token: str = field(repr=False)
    models: ModelUrls | None = None
    servers: Sequence[McpServer] = ()
    files: Sequence[PlacedFile] = ()
    forgot: str = ""

    @property
    def prompt(self) -> str:
        """What was said, and the files that came with it. An event without words is named, as what it is."""
        said = self.ctx.input.text
        paths = [one.path for one in self.files if one.path]
        if paths:
            said = "\n".join([*([said, ""] if said else []), "Files of the message:", *(f"- {one}" for one in paths)])
        what = self.ctx.event.type or "an event"
        return said or f"({what}: see {self.place.folders.run}/agent-context.md)"

    @property
    def told(self) -> str:
        """For the instructions of a program that takes some."""
        folder = self.place.folders.run
        return (
            f"About this conversation: {folder}/agent-context.md and agent-context.json beside it. "
            f"Files for the person go into {self.outbox}."
        )

    def context_files(self) -> Files:
        """What is told of the run, the folder for what it makes, and what its servers need."""
        folder = self.place.folders.run
        files: dict[str, bytes | Link | None] = {f"{folder}/{OUTBOX}": None}
        files |= context_files(self.ctx, folder, Surroundings(self.files, self.outbox))
        for server in self.servers:
            files |= server.files
        return files


@asynccontextmanager
async def prepared(ctx: RunContext, host: HostApi, settings: HarnessSettings, *, models: bool) -> AsyncIterator[Job]:
    """The place, the models and the files of a message, while the block runs. Raises `RunFailure`."""
    check_prompt(ctx)
    kept = kept_session(ctx, settings.keep_days, time.time())
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(open_place(ctx, host, settings))
        forgot = ""
        try:
            # A configured working directory wins over the one that is remembered.
            directory = await place.resolve(settings.working_directory or kept.working_directory)
        except RunFailure as failure:
            if failure.error.code != NO_PLACE or settings.working_directory or not kept.working_directory:
                raise
            forgot = f"the directory of the earlier session is gone ({kept.working_directory})"
            directory, kept = await place.resolve(""), replace(kept, session_id="")
        outbox = settings.outbox or f"{place.folders.run}/{OUTBOX}"
        if settings.outbox:
            await place.resolve(settings.outbox)
        job = Job(ctx, settings, place, directory, kept.session_id, outbox, host.run_token, forgot=forgot)
        files = await place_files(ctx, host, place) if settings.attached_files else ()
        urls = await stack.enter_async_context(place.models()) if models else None
        servers = await stack.enter_async_context(bridge_servers(ctx, host, place))
        yield replace(job, files=files, models=urls, servers=servers)


def base_environment(job: Job) -> Mapping[str, str]:
    """Besides PATH and a folder for temporary files, all that a program gets of itself."""
    home, run = job.place.folders.home, job.place.folders.run
    return {
        "HOME": home,
        "XDG_CONFIG_HOME": f"{home}/.config",
        "XDG_CACHE_HOME": f"{home}/.cache",
        "XDG_DATA_HOME": f"{home}/.local/share",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "AGENT_CONTEXT": f"{run}/agent-context.json",
        "AGENT_OUTBOX": job.outbox,
    }


def program_name(settings: HarnessSettings) -> str:
    """For people."""
    return settings.command[0].rsplit("/", 1)[-1]


def check_prompt(ctx: RunContext) -> None:
    """Raises `RunFailure` (`harness.input_too_long`)."""
    if len(ctx.input.text.encode()) > MAX_PROMPT:
        raise RunFailure(INPUT_TOO_LONG, f"the message has more than {MAX_PROMPT >> 10} KiB; send it as a file")
