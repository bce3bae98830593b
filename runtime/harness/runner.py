"""What all harnesses that are started once for each message have in common."""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field

from portway.runtime.harness.failures import INPUT_TOO_LONG, check_exit
from portway.runtime.harness.kept import KeptSession, keep_session, kept_session
from portway.runtime.harness.mcp import McpServer, bridge_servers
from portway.runtime.harness.places import Files, ModelUrls, Place, open_place
from portway.runtime.harness.program import Launch, Listener, empty
from portway.runtime.harness.project import context_files
from portway.runtime.harness.settings import HarnessSettings, read_settings
from portway.runtime.sdk import (
    AgentRunner,
    FinishReason,
    HostApi,
    MessageCompleted,
    RunCompleted,
    RunContext,
    RunFailure,
    RunResult,
)

MESSAGE_KEY = "answer"
# What can be under way to the box before anything of the program is read.
MAX_PROMPT = 448 * 1024


@dataclass(frozen=True, slots=True)
class Job:
    """One message for a program: where it runs, what it resumes, and where its models are."""

    ctx: RunContext
    settings: HarnessSettings
    place: Place
    directory: str
    session_id: str
    run_token: str = field(repr=False)
    models: ModelUrls | None = None
    servers: Sequence[McpServer] = ()

    @property
    def prompt(self) -> str:
        return self.ctx.input.text


@dataclass(frozen=True, slots=True)
class Start:
    """How the program is started for a job."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Files = field(default_factory=dict)
    stdin: bytes = b""


class SessionGone(Exception):
    """The program does not know the session that it was to resume."""


class Reader(ABC):
    """Turns what a program writes into results. A new one for each start."""

    by_lines = True

    def __init__(self) -> None:
        self.said = ""
        self.session_id = ""
        self.finish = FinishReason.STOP
        # The program stopped at a limit of its own, with an exit code that is no failure.
        self.limited = False

    @abstractmethod
    def take(self, data: bytes) -> Iterable[RunResult]:
        """A line, or a piece of output. Raises `RunFailure` (`harness.bad_output`)."""

    def ended(self, errors: str) -> None:  # noqa: B027 - most have nothing to say
        """After all of the output, before the exit is looked at. Raises `RunFailure`, or `SessionGone`."""

    def complete(self) -> bool:
        """All that must come of a good answer has come, apart from its text."""
        return True


class Harness(AgentRunner, ABC):
    """Runs a program for each message, and goes back to its session with the next."""

    @abstractmethod
    def default_command(self, ctx: RunContext) -> Sequence[str]:
        """What is run where the configuration names no command. Raises `RunFailure` (`harness.config`)."""

    def wants_models(self, ctx: RunContext) -> bool:
        """Whether the program is given the run's models."""
        return True

    def argv_of(self, job: Job, start: "Start") -> Sequence[str]:
        """The program and its arguments; the operator's own come last."""
        return (*job.settings.command, *start.arguments, *job.settings.arguments)

    @abstractmethod
    def start_of(self, job: Job) -> Start:
        """Raises `RunFailure` (`harness.config`)."""

    @abstractmethod
    def reader(self, job: Job) -> Reader: ...

    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        settings = read_settings(ctx, self.default_command(ctx))
        check_prompt(ctx)
        kept = kept_session(ctx, settings.keep_days)
        async with AsyncExitStack() as stack:
            place = await stack.enter_async_context(open_place(ctx, host, settings))
            # A configured working directory wins over the one that is remembered.
            directory = await place.resolve(settings.working_directory or kept.working_directory)
            models = await stack.enter_async_context(place.models()) if self.wants_models(ctx) else None
            servers = await stack.enter_async_context(bridge_servers(ctx, host, place))
            job = Job(ctx, settings, place, directory, kept.session_id, host.run_token, models, servers)
            reader = self.reader(job)
            try:
                async with aclosing(self._attempt(job, reader)) as results:
                    async for result in results:
                        yield result
            except SessionGone:
                job = Job(ctx, settings, place, directory, "", host.run_token, models, servers)
                reader = self.reader(job)
                async with aclosing(self._attempt(job, reader)) as results:
                    async for result in results:
                        yield result
            if reader.session_id:
                await keep_session(ctx, host, KeptSession(reader.session_id, directory))
        yield MessageCompleted.of_text(reader.said, message_key=MESSAGE_KEY)
        yield RunCompleted(reader.finish)

    async def _attempt(self, job: Job, reader: Reader) -> AsyncGenerator[RunResult, None]:
        start = self.start_of(job)
        name = job.settings.command[0].rsplit("/", 1)[-1]
        await job.place.write({**context_files(job.ctx, job.place.folders.run), **start.files})
        launch = Launch(
            self.argv_of(job, start),
            job.directory,
            {**base_environment(job.place), **start.environment, **job.settings.environment},
            job.settings.timeout,
        )
        begun = time.monotonic()
        async with job.place.start(launch) as program:
            await program.write(start.stdin)
            await program.close_input()
            listener = Listener(name, program, job.settings.timeout - (time.monotonic() - begun))
            async with aclosing(listener.lines() if reader.by_lines else listener.pieces()) as output:
                async for data in output:
                    for result in reader.take(data):
                        yield result
        assert listener.exit is not None, "what is read to its end has an exit"
        reader.ended(listener.errors.text())
        if not reader.limited:
            check_exit(name, listener.exit, listener.errors.text())
        if not reader.said.strip() or not reader.complete():
            raise empty(name, listener.errors.text())


def base_environment(place: Place) -> Mapping[str, str]:
    """Besides PATH and a folder for temporary files, all that a program gets of itself."""
    home, run = place.folders.home, place.folders.run
    return {
        "HOME": home,
        "XDG_CONFIG_HOME": f"{home}/.config",
        "XDG_CACHE_HOME": f"{home}/.cache",
        "XDG_DATA_HOME": f"{home}/.local/share",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "AGENT_CONTEXT": f"{run}/agent-context.json",
    }


def check_prompt(ctx: RunContext) -> None:
    """Raises `RunFailure` (`harness.input_too_long`)."""
    if len(ctx.input.text.encode()) > MAX_PROMPT:
        raise RunFailure(INPUT_TOO_LONG, f"the message has more than {MAX_PROMPT >> 10} KiB; send it as a file")
