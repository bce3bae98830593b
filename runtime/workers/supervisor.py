"""All plugins' processes: one keeper for each plugin that is there."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from portway.rpc.errors import NotFound
from portway.runtime.plugins.types import PluginDefinition, StartMode
from portway.runtime.workers.environment import WorkerFolder, environment_of
from portway.runtime.workers.keeper import Keeper
from portway.runtime.workers.log import PluginLog
from portway.runtime.workers.spawner import Spawner
from portway.runtime.workers.types import WorkerLimits, WorkerStatus
from portway.runtime.workers.worker import Worker, start_worker


class Supervisor:
    """`folder` is private to this runtime; it is removed at the end. `grants` are names of environment variables that
    the operator lets a plugin have; `given` are variables that the runtime itself tells a plugin."""

    def __init__(
        self,
        folder: Path,
        tasks: asyncio.TaskGroup,
        limits: WorkerLimits,
        grants: Mapping[str, Sequence[str]],
        given: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._folder = folder
        self._tasks = tasks
        self._limits = limits
        self._grants = grants
        self._given = given
        self._spawner = Spawner(folder)
        self._keepers: dict[str, Keeper] = {}
        self._worker_count = 0
        self._log = structlog.get_logger("portway.runtime.workers")

    @property
    def fork_server_pid(self) -> int:
        return self._spawner.pid

    def statuses(self) -> Mapping[str, WorkerStatus]:
        """Of every plugin's process."""
        return {plugin_id: keeper.status() for plugin_id, keeper in self._keepers.items()}

    def keeper(self, plugin_id: str) -> Keeper:
        """Raises `NotFound`."""
        if plugin_id not in self._keepers:
            raise NotFound.of("plugin", plugin_id)
        return self._keepers[plugin_id]

    def granted(self, plugin_id: str) -> Sequence[str]:
        return self._grants.get(plugin_id, ())

    def apply(self, plugins: Mapping[str, PluginDefinition]) -> None:
        """Follows a change of what there is: new plugins begin, changed ones are replaced, the others end."""
        for plugin_id in self._keepers.keys() - plugins.keys():
            keeper = self._keepers.pop(plugin_id)
            self._tasks.create_task(keeper.close(), name=f"remove {plugin_id}")
        for plugin_id, plugin in plugins.items():
            known = self._keepers.get(plugin_id)
            if known is None:
                known = self._keepers[plugin_id] = Keeper(plugin, self._start, self._tasks, self._limits)
            elif known.plugin != plugin:
                self._log.info("plugin changed", plugin=plugin_id, version=plugin.version)
                known.replace(plugin)
            if plugin.start is StartMode.BOOT:
                known.ensure()

    async def _start(self, plugin: PluginDefinition, generation: int, log: PluginLog) -> Worker:
        self._worker_count += 1
        folder = WorkerFolder(self._folder / f"w{self._worker_count}")
        environment = environment_of(plugin, folder, os.environ, self.granted(plugin.id))
        environment |= self._given.get(plugin.id, {})
        return await start_worker(plugin, generation, folder, environment, self._spawner, log, self._limits)

    async def close(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for keeper in self._keepers.values():
                    group.create_task(keeper.close())
        finally:
            await self._spawner.stop()

    async def start(self) -> None:
        """Loads the fork server already, so that the first plugin does not wait for it."""
        await self._spawner.start_server()


@asynccontextmanager
async def supervise(
    folder: Path,
    limits: WorkerLimits,
    grants: Mapping[str, Sequence[str]],
    given: Mapping[str, Mapping[str, str]] | None = None,
) -> AsyncIterator[Supervisor]:
    """A supervisor for the time of the block. A bug in its background work ends the block."""
    failure: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        supervisor = Supervisor(folder, tasks, limits, grants, given or {})
        try:
            await supervisor.start()
            yield supervisor
        except Exception as error:  # noqa: BLE001 - raised again below: the group would wrap it
            failure = error
        finally:
            await asyncio.shield(supervisor.close())
    if failure is not None:
        raise failure
