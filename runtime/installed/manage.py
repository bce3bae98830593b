"""What an operator decides about a plugin that is there: whether it runs, in which version, and that it goes."""

from dataclasses import replace

from portway.rpc.errors import Conflict, NotFound, Reason, Resource, WrongState
from portway.runtime.installed.changes import Changes
from portway.runtime.installed.types import Record, Version
from portway.runtime.installed.versions import Outcome, Versions
from portway.runtime.kept.folders import PluginFolders
from portway.runtime.plugins.catalog import Catalog
from portway.runtime.workers.supervisor import Supervisor


class PluginKeeping:
    def __init__(
        self,
        catalog: Catalog,
        supervisor: Supervisor,
        changes: Changes,
        versions: Versions,
        kept: PluginFolders,
    ) -> None:
        self._kept = kept
        self._catalog = catalog
        self._supervisor = supervisor
        self._changes = changes
        self._versions = versions

    async def enable(self, plugin_id: str) -> bool:
        """Whether it was disabled before."""
        self._check_there(plugin_id)
        async with self._changes.of(plugin_id) as record:
            if not record.disabled:
                return False
            await self._changes.commit(replace(record, disabled=False, disabled_because=""))
            return True

    async def disable(self, plugin_id: str, because: str) -> bool:
        """Whether it was enabled before."""
        self._check_there(plugin_id)
        async with self._changes.of(plugin_id) as record:
            if record.disabled and record.disabled_because == because:
                return False
            await self._changes.commit(replace(record, disabled=True, disabled_because=because))
            return not record.disabled

    async def rollback(self, plugin_id: str, wanted: str, request_id: str) -> Outcome:
        """To the version `wanted`, or to the one that was current before."""
        async with self._changes.of(plugin_id) as record:
            if self._answered(record, request_id, f"rollback {wanted}"):
                return Outcome(plugin_id, unchanged=True)
            version = self._earlier(self._installed(record), wanted)
            self._versions.check_trust(version)
            if missing := record.ungranted(version):
                raise WrongState(
                    f"version {version.version} asks for {', '.join(missing)}, which was not granted; "
                    f"`portway plugin grant {plugin_id}` grants it",
                    reason=Reason.PERMISSIONS_GROWN,
                )
            plugin = await self._versions.definition(version, plugin_id)
            # What was current after it is no way back from it.
            at = record.history.index(version.digest) if version.digest in record.history else len(record.history)
            record = record.remembering(request_id, f"rollback {wanted}")
            return await self._versions.make_current(record, version, plugin, record.history[:at])

    async def grant(self, plugin_id: str, wanted: str) -> Outcome:
        """Gives a version that waits what it asks for, and makes it the current one."""
        async with self._changes.of(plugin_id) as record:
            waiting = [one for digest in record.waiting if (one := record.version(digest)) is not None]
            version = next((one for one in reversed(waiting) if wanted in ("", one.version)), None)
            if version is None:
                which = f"version {wanted!r}" if wanted else "version"
                raise NotFound(
                    f"no {which} of {plugin_id} waits to be granted something; see `portway plugin show {plugin_id}`",
                    resource=Resource("plugin version", wanted or plugin_id),
                )
            self._versions.check_trust(version)
            plugin = await self._versions.definition(version, plugin_id)
            granted = tuple(sorted({*record.granted, *version.permissions}))
            return await self._versions.make_current(replace(record, granted=granted), version, plugin)

    async def remove(self, plugin_id: str, *, force: bool, delete_data: bool, request_id: str) -> None:
        async with self._changes.of(plugin_id) as record:
            if self._answered(record, request_id, "remove"):
                return
            self._check_removable(record)
            runs = self._supervisor.run_count(plugin_id)
            if runs and not force:
                raise WrongState(
                    f"{runs} runs of {plugin_id} are under way; wait for them (disable it meanwhile), or force it",
                    reason=Reason.IN_USE,
                )
            nothing = Record(plugin_id, generation=record.generation, requests=record.requests)
            await self._changes.commit(nothing.remembering(request_id, "remove"))
            await self._supervisor.ended(plugin_id, kill=force)
            await self._versions.clean(plugin_id)
            if delete_data:
                await self._kept.drop(plugin_id)

    def _check_there(self, plugin_id: str) -> None:
        contents = self._catalog.contents
        if not any(plugin_id in known for known in (contents.plugins, contents.disabled, contents.broken)):
            raise NotFound.of("plugin", plugin_id)

    def _check_removable(self, record: Record) -> None:
        if record.installed:
            return
        self._check_there(record.plugin_id)
        contents, plugin_id = self._catalog.contents, record.plugin_id
        there = contents.plugins.get(plugin_id) or contents.disabled.get(plugin_id) or contents.broken[plugin_id]
        if there.bundled:
            raise WrongState(
                f"{plugin_id} came with Portway and cannot be removed; `portway plugin disable {plugin_id}` ends it",
                reason=Reason.PLUGIN_BUNDLED,
            )
        raise WrongState(
            f"{plugin_id} is in the operator's folder {there.folder}; remove it there, then `portway plugin reload`",
            reason=Reason.MANAGED_BY_CONFIG,
        )

    def _installed(self, record: Record) -> Record:
        if not record.installed:
            self._check_there(record.plugin_id)
            raise WrongState(f"{record.plugin_id} was not installed, so it has no versions; see `portway plugin show`")
        return record

    @staticmethod
    def _answered(record: Record, request_id: str, action: str) -> bool:
        request = record.request(request_id)
        if request is not None and request.action != action:
            raise Conflict(
                f"the request {request_id!r} was another one before; use a new id for each",
                reason=Reason.SAME_KEY_OTHER_BODY,
            )
        return request is not None

    @staticmethod
    def _earlier(record: Record, wanted: str) -> Version:
        if not wanted:
            for digest in reversed(record.history):
                if (version := record.version(digest)) is not None:
                    return version
            raise WrongState(f"there is no earlier version of {record.plugin_id}; see `portway plugin show`")
        named = [one for one in record.versions if one.version == wanted and one.digest != record.current]
        if named:
            return named[0]
        current = record.version(record.current)
        if current is not None and current.version == wanted:
            raise WrongState(f"{wanted} is the current version of {record.plugin_id} already")
        known = ", ".join(one.version for one in record.versions)
        raise NotFound(
            f"version {wanted!r} of {record.plugin_id} is not kept; there are {known}",
            resource=Resource("plugin version", wanted),
        )
