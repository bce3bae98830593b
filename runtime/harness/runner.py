"""What all harnesses that are started once for each message have in common."""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from portway.runtime.harness.failures import check_exit
from portway.runtime.harness.job import Job, base_environment, prepared, program_name
from portway.runtime.harness.kept import KeptSession, keep_session
from portway.runtime.harness.made import handed_back
from portway.runtime.harness.places import Files
from portway.runtime.harness.program import Launch, Listener, empty, unfinished
from portway.runtime.harness.settings import read_settings
from portway.runtime.sdk import (
    AgentRunner,
    FinishReason,
    HostApi,
    MessageCompleted,
    Progress,
    RunCompleted,
    RunContext,
    RunResult,
)

MESSAGE_KEY = "answer"


@dataclass(frozen=True, slots=True)
class Start:
    """How the program is started for a job."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Files = field(default_factory=dict)
    stdin: bytes = b""


def anew(why: str) -> Progress:
    """What people are told once when an earlier session of the program is not gone back to."""
    return Progress(f"a new session is begun: {why}")


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
        async with prepared(ctx, host, settings, models=self.wants_models(ctx)) as job:
            if job.forgot:
                yield anew(job.forgot)
            reader = self.reader(job)
            try:
                async with aclosing(self._attempt(job, reader)) as results:
                    async for result in results:
                        yield result
            except SessionGone:
                yield anew(f"{program_name(settings)} does not know the earlier session {job.session_id} any more")
                job = replace(job, session_id="")
                reader = self.reader(job)
                async with aclosing(self._attempt(job, reader)) as results:
                    async for result in results:
                        yield result
            if reader.session_id:
                await keep_session(ctx, host, KeptSession(reader.session_id, job.directory))
            async with aclosing(handed_back(host, ctx, job.place, job.outbox)) as made:
                async for result in made:
                    yield result
        yield MessageCompleted.of_text(reader.said, message_key=MESSAGE_KEY)
        yield RunCompleted(reader.finish)

    async def _attempt(self, job: Job, reader: Reader) -> AsyncGenerator[RunResult, None]:
        start = self.start_of(job)
        name = program_name(job.settings)
        await job.place.write({**job.context_files(), **start.files})
        launch = Launch(
            self.argv_of(job, start),
            job.directory,
            {**base_environment(job), **start.environment, **job.settings.environment},
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
            check_exit(name, listener.exit, listener.errors.text(), reader.said)
        if not reader.said.strip():
            raise empty(name, listener.errors.text())
        if not reader.complete():
            raise unfinished(name, listener.errors.text())
