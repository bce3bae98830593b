"""All plugins' processes: one keeper for each plugin that is there."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog

from portway.rpc.errors import NotFound
from portway.runtime.environments.prepare import Environments
from portway.runtime.environments.types import Environment, EnvironmentsConfig
from portway.runtime.kept.folders import PluginFolders
from portway.runtime.plugins.types import EngineDefinition, PluginDefinition, PythonCode, Requirements, StartMode
from portway.runtime.sdk.worker.settings import DATA
from portway.runtime.workers.environment import WorkerFolder, environment_of
from portway.runtime.workers.groups import Groups
from portway.runtime.workers.keeper import Keeper
from portway.runtime.workers.log import PluginLog
from portway.runtime.workers.programs import run_program
from portway.runtime.workers.spawner import Spawner
from portway.runtime.workers.types import WorkerLimits, WorkerStatus
from portway.runtime.workers.worker import Worker, start_worker

MAX_PAST = 200


class Supervisor:
    """`folder` is private to this runtime; it is removed at the end. `grants` are names of environment variables that
    the operator lets a plugin have; `given` are variables that the runtime itself tells a plugin. Environments of
    packages are kept in `environments_folder`; `folders` are where plugins keep things."""

    def __init__(
        self,
        folder: Path,
        tasks: asyncio.TaskGroup,
        limits: WorkerLimits,
        grants: Mapping[str, Sequence[str]],
        given: Mapping[str, Mapping[str, str]],
        environments: EnvironmentsConfig,
        environments_folder: Path,
        groups: Groups,
        folders: PluginFolders | None = None,
    ) -> None:
        self._folders = folders
        self._watching: asyncio.Task[None] | None = None
        self._folder = folder
        self._tasks = tasks
        self._limits = limits
        self._grants = grants
        self._given = given
        self._groups = groups
        self._spawner = Spawner(folder, groups.bases)
        self._keepers: dict[str, Keeper] = {}
        # Of plugins that were staged and are not installed yet.
        self._newcomers: dict[str, Keeper] = {}
        # Of plugins that were taken away: they may still finish runs, and one that comes back goes on counting.
        self._past: dict[str, Keeper] = {}
        self._environments = Environments(
            environments_folder, environments, partial(run_program, self._spawner), tasks, self._requirements
        )
        self._worker_count = 0
        self._log = structlog.get_logger("portway.runtime.workers")

    @property
    def fork_server_pid(self) -> int:
        return self._spawner.pid

    def statuses(self) -> Mapping[str, WorkerStatus]:
        """Of every plugin's process."""
        return {plugin_id: keeper.status() for plugin_id, keeper in self._keepers.items()}

    @property
    def unenforced(self) -> Sequence[str]:
        """Limits that this machine does not enforce, and why."""
        return self._groups.missing

    def keeper(self, plugin_id: str) -> Keeper:
        """Raises `NotFound`."""
        if plugin_id not in self._keepers:
            raise NotFound.of("plugin", plugin_id)
        return self._keepers[plugin_id]

    def running(self) -> Iterator[PluginDefinition]:
        """Plugins that have a process now."""
        for keeper in self._keepers.values():
            if keeper.status().pid:
                yield keeper.plugin

    def end(self, plugin_id: str, reason: str) -> None:
        """Ends a plugin's process at once; the next call starts another."""
        if plugin_id in self._keepers:
            self._keepers[plugin_id].end(reason)

    def granted(self, plugin_id: str) -> Sequence[str]:
        return self._grants.get(plugin_id, ())

    def _requirements(self) -> Sequence[Requirements]:
        """Of every plugin that is installed, staged or still has a process."""
        keepers = [*self._keepers.values(), *self._newcomers.values(), *self._past.values()]
        code = [plugin.execution for keeper in keepers for plugin in keeper.plugins()]
        return [one.requirements for one in code if isinstance(one, PythonCode) and one.requirements is not None]

    async def stage(self, plugin: PluginDefinition) -> None:
        """Makes a version ready beside the one in use: its environment, then a process of it that is given no runs.

        Raises `Unavailable` with why that does not work; the version in use is untouched. The next `apply` with exactly
        this definition gives new runs to the process that waits, and lets the old one finish what it has; with another
        one, or after `unstage`, it ends.
        """
        keeper = self._keepers.get(plugin.id) or self._newcomers.get(plugin.id)
        if keeper is None:
            keeper = self._newcomers[plugin.id] = self._new_keeper(plugin)
        await keeper.stage(plugin)

    async def unstage(self, plugin_id: str) -> None:
        """Ends what `stage` made ready, where there is something."""
        if plugin_id in self._newcomers:
            await self._newcomers.pop(plugin_id).close()
        elif plugin_id in self._keepers:
            await self._keepers[plugin_id].unstage()

    def apply(self, plugins: Mapping[str, PluginDefinition]) -> None:
        """Follows a change of what there is: new plugins begin, changed ones are replaced, the others end."""
        for plugin_id in self._keepers.keys() - plugins.keys():
            keeper = self._past[plugin_id] = self._keepers.pop(plugin_id)
            self._tasks.create_task(keeper.close(), name=f"remove {plugin_id}")
        while len(self._past) > MAX_PAST:
            del self._past[next(iter(self._past))]
        for plugin_id, plugin in plugins.items():
            known = self._keepers.get(plugin_id)
            if known is None:
                known = self._newcomers.pop(plugin_id, None) or self._new_keeper(plugin)
                self._keepers[plugin_id] = known
                known.replace(plugin)
            elif known.plugin != plugin:
                self._log.info("plugin changed", plugin=plugin_id, version=plugin.version)
                known.replace(plugin)
            if plugin.start is StartMode.BOOT:
                known.ensure()
            elif self._packages_of(plugin) is not None:
                # Not only when somebody waits for an answer.
                known.prepare(self._make_ready)

    def _new_keeper(self, plugin: PluginDefinition) -> Keeper:
        keeper = Keeper(plugin, self._start, self._tasks, self._limits)
        if (past := self._past.get(plugin.id)) is not None:
            keeper.succeed(past)
        return keeper

    def run_count(self, plugin_id: str) -> int:
        """Runs under way, also of a plugin that was taken away and finishes them."""
        keepers = [one.get(plugin_id) for one in (self._keepers, self._past)]
        return sum(keeper.status().run_count for keeper in keepers if keeper is not None)

    def runs(self, plugin_id: str) -> bool:
        """Whether the plugin has a process, or is getting one."""
        return plugin_id in self._keepers and bool(self._keepers[plugin_id].under_way())

    def folders_in_use(self) -> frozenset[Path]:
        """Of plugins with a process, also of one that only finishes its runs."""
        keepers = (*self._keepers.values(), *self._newcomers.values(), *self._past.values())
        return frozenset(plugin.folder for keeper in keepers for plugin in keeper.under_way())

    def log(self, plugin_id: str) -> PluginLog:
        """What it printed, also of a plugin that was taken away. Raises `NotFound`."""
        known = self._keepers.get(plugin_id) or self._past.get(plugin_id) or self.keeper(plugin_id)
        return known.log

    async def ended(self, plugin_id: str, *, kill: bool) -> None:
        """Returns once nothing runs any more of a plugin that was taken away; `kill` does not wait for its runs."""
        if (keeper := self._past.get(plugin_id)) is not None:
            await keeper.close(kill=kill)

    async def _make_ready(self, plugin: PluginDefinition) -> Environment | None:
        """The environment of its own, where a plugin needs one. Raises `Unavailable`."""
        packages = self._packages_of(plugin)
        return None if packages is None else await self._environments.ready(packages)

    @staticmethod
    def _packages_of(plugin: PluginDefinition) -> Requirements | None:
        return plugin.execution.requirements if isinstance(plugin.execution, PythonCode) else None

    async def _start(self, plugin: PluginDefinition, generation: int, log: PluginLog) -> Worker:
        packages = await self._make_ready(plugin)
        self._worker_count += 1
        folder = WorkerFolder(self._folder / f"w{self._worker_count}")
        environment = environment_of(plugin, folder, os.environ, self.granted(plugin.id), packages)
        environment |= self._given.get(plugin.id, {})
        # What a runner or tool keeps is the host's; an engine's index is made of what the host has.
        if self._folders is not None and any(isinstance(one, EngineDefinition) for one in plugin.others):
            environment[DATA] = str(await asyncio.to_thread(self._folders.make, plugin.id))
        return await start_worker(
            plugin,
            generation,
            folder,
            environment,
            self._spawner,
            log,
            self._limits,
            self._groups,
            packages.python if packages else None,
        )

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self._environments.close()
        try:
            async with asyncio.TaskGroup() as group:
                for keeper in (*self._keepers.values(), *self._newcomers.values(), *self._past.values()):
                    group.create_task(keeper.close())
        finally:
            await self._spawner.stop()
            await asyncio.to_thread(self._groups.close)

    async def start(self) -> None:
        """Loads the fork server already, so that the first plugin does not wait for it."""
        await self._environments.open()
        await self._spawner.start_server()
        if self._folders is not None:
            watching = self._folders.watch(self.running, self.end)
            self._watching = self._tasks.create_task(watching, name="watch the folders of plugins")


@asynccontextmanager
async def supervise(
    folder: Path,
    limits: WorkerLimits,
    grants: Mapping[str, Sequence[str]],
    given: Mapping[str, Mapping[str, str]],
    environments: EnvironmentsConfig,
    environments_folder: Path,
    folders: PluginFolders | None = None,
) -> AsyncIterator[Supervisor]:
    """A supervisor for the time of the block. A bug in its background work ends the block."""
    failure: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        groups = await asyncio.to_thread(Groups.find, environments_folder)
        supervisor = Supervisor(
            folder, tasks, limits, grants, given, environments, environments_folder, groups, folders
        )
        try:
            await supervisor.start()
            yield supervisor
        except Exception as error:  # noqa: BLE001 - raised again below: the group would wrap it
            failure = error
        finally:
            await asyncio.shield(supervisor.close())
    if failure is not None:
        raise failure
