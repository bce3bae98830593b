"""Where a harness runs: in the run's box session, or on this machine where its operator allows it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from portway.runtime.harness.failures import NO_PLACE
from portway.runtime.harness.program import Launch, Program
from portway.runtime.harness.settings import HarnessSettings, Where
from portway.runtime.sdk import HostApi, RunContext, RunFailure


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link to write."""

    target: str


@dataclass(frozen=True, slots=True)
class Folders:
    """Absolute paths as the program sees them. `run` goes with the run; `home` stays for the next one."""

    run: str
    home: str
    work: str


@dataclass(frozen=True, slots=True)
class ModelUrls:
    """Bases for clients of the vendors; the run's token opens them."""

    openai: str
    anthropic: str


@dataclass(frozen=True, slots=True)
class BridgeWay:
    """How a program reaches the run's MCP bridge: over HTTP at `url`, or at `path` where that is a socket.

    `python` is the program that runs what speaks over standard streams; empty: the one that the session may have."""

    url: str
    path: str = ""
    python: str = ""


# None is an empty folder.
Files = Mapping[str, bytes | Link | None]


class FileRefused(Exception):
    """A file that is not taken; the message says why."""


class MadeFile(Protocol):
    """A file that a program left. `name` is its path within the folder where it was found."""

    @property
    def name(self) -> str: ...

    def read(self) -> AsyncIterator[bytes]:
        """Its bytes, once."""
        ...


class Place(Protocol):
    """`skills` are those that can be linked: pairs of a name and a folder."""

    folders: Folders
    skills: Sequence[tuple[str, str]]

    async def write(self, files: Files) -> None:
        """Files by absolute paths beneath `run` or `home`; folders are made, what is there is replaced."""
        ...

    async def resolve(self, directory: str) -> str:
        """The working directory to use for one that was asked for; empty: the place's own. Raises `RunFailure`."""
        ...

    async def receive(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        """A file beneath `run`, as it comes. Raises `FileRefused`."""
        ...

    def made_files(self, folder: str, since: str, most: int) -> AbstractAsyncContextManager[Sequence[MadeFile]]:
        """Plain files of a folder that is there, by name, at most so many; those newer than the file `since`, if it is
        named. Links are not followed, and what begins with a dot is left alone."""
        ...

    def models(self) -> AbstractAsyncContextManager[ModelUrls]:
        """The run's models, while the block runs."""
        ...

    def bridge(self) -> AbstractAsyncContextManager[BridgeWay | None]:
        """The run's MCP bridge, while the block runs; None where the host serves none for this place."""
        ...

    def start(self, launch: Launch) -> AbstractAsyncContextManager[Program]:
        """Raises `RunFailure` (`harness.cli_missing`)."""
        ...


@asynccontextmanager
async def open_place(ctx: RunContext, host: HostApi, settings: HarnessSettings) -> AsyncIterator[Place]:
    """Raises `RunFailure` (`harness.no_place`)."""
    # Here and not above: each place knows this module.
    from portway.runtime.harness.box_place import open_session  # noqa: PLC0415 - the two places know this module
    from portway.runtime.harness.machine_place import open_machine  # noqa: PLC0415 - the two places know this module

    if settings.where is Where.MACHINE:
        async with open_machine(ctx) as machine:
            yield machine
        return
    if not ctx.resources.box:
        raise RunFailure(
            NO_PLACE,
            "this run has no box session to run the program in: give the agent one (box_policy.tools, such as [exec]) "
            "and the permission box.exec, and see `portway status` for the box",
        )
    async with open_session(ctx, host) as session:
        yield session
