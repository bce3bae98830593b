"""Makes environments ready: found by their digest, or made once, however many ask for it."""

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Protocol

import structlog

from portway.rpc.errors import Unavailable
from portway.runtime.environments import sdk
from portway.runtime.environments.digest import digest_of
from portway.runtime.environments.installer import Installer, Step
from portway.runtime.environments.reasons import is_missing, why_not
from portway.runtime.environments.shelf import Shelf, size_of
from portway.runtime.environments.types import Environment, EnvironmentsConfig, EnvironmentUnusable
from portway.runtime.plugins.types import Requirements

_MEGABYTE = 1024 * 1024
# How often it is looked whether the installer has filled the disk.
_LOOK_SECONDS = 0.5
# At once; more only wait for the same disk and network.
_MAKERS = 2


class Program(Protocol):
    """A program that runs."""

    async def ended(self) -> bool:
        """Waits for its end; whether it went well."""
        ...

    async def signal(self, number: int) -> None: ...

    def said(self) -> Sequence[str]:
        """The last lines that it printed."""
        ...


class RunProgram(Protocol):
    async def __call__(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> Program: ...


class Environments:
    """`used` tells what plugins need, whose environments must stay. `tasks` owns the work, which goes on when whoever
    asked gives up."""

    def __init__(
        self,
        folder: Path,
        config: EnvironmentsConfig,
        run: RunProgram,
        tasks: asyncio.TaskGroup,
        used: Callable[[], Sequence[Requirements]],
    ) -> None:
        self._shelf = Shelf(folder)
        self._config = config
        self._run = run
        self._tasks = tasks
        self._used = used
        self._installer = Installer(config)
        self._making: dict[str, asyncio.Task[Environment | EnvironmentUnusable]] = {}
        self._slots = asyncio.Semaphore(_MAKERS)
        self._log = structlog.get_logger("portway.runtime.environments")

    async def open(self) -> None:
        """Removes what an earlier runtime had begun; before anything else is asked."""
        await asyncio.to_thread(self._shelf.clear_unfinished)

    def close(self) -> None:
        """Gives up what is being made."""
        for making in self._making.values():
            making.cancel()

    async def ready(self, requirements: Requirements) -> Environment:
        """The environment with these packages. Raises `EnvironmentUnusable`."""
        try:
            digest = await asyncio.to_thread(digest_of, requirements)
        except OSError as error:
            raise EnvironmentUnusable(f"the wheel {error.filename} cannot be read: {error.strerror}") from None
        if (found := await asyncio.to_thread(self._shelf.find, digest)) is not None:
            return found
        making = self._making.get(digest)
        if making is None:
            making = self._making[digest] = self._tasks.create_task(
                self._make_in_turn(digest, requirements), name=f"environment {digest}"
            )
        made = await asyncio.shield(making)
        if isinstance(made, EnvironmentUnusable):
            raise made
        return made

    async def reap(self) -> None:
        """Removes environments that no plugin uses, beyond those that are kept."""
        used = await asyncio.to_thread(_digests_of, self._used()) | set(self._making)
        removed = await asyncio.to_thread(self._shelf.reap, used, self._config.keep, self._config.keep_mb * _MEGABYTE)
        for one in removed:
            self._log.info("environment removed: unused", environment=one.folder.name)

    async def _make_in_turn(self, digest: str, requirements: Requirements) -> Environment | EnvironmentUnusable:
        """A failure is an answer here: it is for whoever asked, and none of the task group's business."""
        try:
            async with self._slots:
                self._log.info("environment is being made", environment=digest, packages=len(requirements.packages))
                made = await self._make(digest, requirements)
            await self.reap()
        except EnvironmentUnusable as error:
            self._log.warning("environment cannot be made", environment=digest, reason=error.message)
            return error
        except (OSError, Unavailable) as error:
            return EnvironmentUnusable(f"the environment of its packages cannot be made: {error}")
        finally:
            del self._making[digest]
        self._log.info("environment made", environment=digest)
        return made

    async def _make(self, digest: str, requirements: Requirements) -> Environment:
        begun = await asyncio.to_thread(self._shelf.begin, digest)
        try:
            async with asyncio.timeout(self._config.seconds):
                return await self._fill(digest, requirements, begun)
        except TimeoutError:
            raise EnvironmentUnusable(
                f"its packages were not installed within {self._config.seconds:g} seconds; bring them as wheels in the "
                "plugin's folder wheels/, or raise runtime.environments.seconds"
            ) from None
        finally:
            await asyncio.shield(asyncio.to_thread(self._shelf.drop, begun))

    async def _fill(self, digest: str, requirements: Requirements, begun: Path) -> Environment:
        made, scratch = begun / "environment", begun / "tmp"
        await asyncio.to_thread(self._installer.write_files, requirements, scratch, sdk.constraints())
        await self._steps([self._installer.make(made, scratch)], requirements, begun)
        await self._steps(self._installer.installs(requirements, made, scratch), requirements, begun)
        await asyncio.to_thread(_check_shared, made)
        await asyncio.to_thread(sdk.link_into, made)
        return await asyncio.to_thread(self._shelf.finish, digest, begun, made)

    async def _steps(self, steps: Sequence[Step], requirements: Requirements, begun: Path) -> None:
        """Until one goes well; what the last one said is why none did."""
        said: Sequence[str] = ()
        for step in steps:
            program = await self._run(step.arguments, step.environment, begun)
            if await self._watched(program, begun):
                return
            said = program.said()
            if not is_missing(said):
                break
        raise EnvironmentUnusable(
            f"its packages cannot be installed: {why_not(said, requirements, offline=self._config.offline)}"
        )

    async def _watched(self, program: Program, begun: Path) -> bool:
        """Whether it went well; it is ended when it takes too much room, or nobody waits for it any more."""
        ended = asyncio.ensure_future(program.ended())
        try:
            while not ended.done():
                await asyncio.wait([ended], timeout=_LOOK_SECONDS)
                if await asyncio.to_thread(size_of, begun) > self._config.max_mb * _MEGABYTE:
                    raise EnvironmentUnusable(
                        f"its packages take more than {self._config.max_mb} MB; name fewer, or raise "
                        "runtime.environments.max_mb"
                    )
            return ended.result()
        finally:
            if not ended.done():
                await asyncio.shield(program.signal(signal.SIGKILL))
                await asyncio.shield(ended)


def _digests_of(used: Sequence[Requirements]) -> Set[str]:
    found = set[str]()
    for one in used:
        # Without its wheels it cannot be made and has none.
        with suppress(OSError):
            found.add(digest_of(one))
    return found


def _check_shared(environment: Path) -> None:
    """A process has one protobuf: what a plugin brings has to be the version of the SDK."""
    (packages,) = environment.glob("lib/python*/site-packages")
    for line in sdk.constraints().split():
        name, _, wanted = line.partition("==")
        for one in distributions(name=name, path=[str(packages)]):
            if one.version != wanted:
                raise EnvironmentUnusable(
                    f"its packages bring {name} {one.version}, and the SDK in the same process needs {wanted}; allow it"
                )
