"""Making a version the current one: tried first, then decided, on disk and followed, and what is too much forgotten."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from portway.rpc.errors import Reason, Unavailable, WrongState
from portway.runtime.installed.changes import Changes
from portway.runtime.installed.config_changes import ConfigChange, config_changes
from portway.runtime.installed.inventory import Inventory
from portway.runtime.installed.types import Record, Version
from portway.runtime.plugins.catalog import Catalog
from portway.runtime.plugins.plugin_manifest import read_plugin
from portway.runtime.plugins.types import BrokenPlugin, PluginDefinition
from portway.runtime.signing.judge import SignatureRules
from portway.runtime.waiting import to_the_end
from portway.runtime.workers.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a change of version. `replaced` is the version from before, empty where there was none."""

    plugin_id: str
    replaced: str = ""
    unchanged: bool = False
    config_changes: Sequence[ConfigChange] = ()


class Versions:
    """`kept` versions stay beside the current one."""

    def __init__(
        self,
        inventory: Inventory,
        changes: Changes,
        catalog: Catalog,
        supervisor: Supervisor,
        signatures: SignatureRules,
        *,
        kept: int,
    ) -> None:
        self._inventory = inventory
        self._changes = changes
        self._catalog = catalog
        self._supervisor = supervisor
        self._signatures = signatures
        self._kept = kept
        self._log = structlog.get_logger("portway.runtime.plugins")

    async def definition(self, version: Version, plugin_id: str) -> PluginDefinition:
        """The plugin as a kept version has it. Raises `WrongState` where it cannot be used any more."""
        plugin = await asyncio.to_thread(read_plugin, self._inventory.place_of(version), bundled=False)
        if isinstance(plugin, BrokenPlugin) or plugin.id != plugin_id:
            told = "; ".join(f"{one.location}: {one.message}" for one in plugin.problems if not one.warning)
            raise WrongState(
                f"version {version.version} of {plugin_id} cannot be used any more: {told}; install it again"
            )
        return plugin

    def check_trust(self, version: Version) -> None:
        """Raises `WrongState` where it may not run for who signed it."""
        key_id = version.signature.key_id if version.signature else ""
        if refusal := self._signatures.refusal(key_id):
            reason = Reason.SIGNATURE_KEY_UNKNOWN if key_id else Reason.SIGNATURE_MISSING
            raise WrongState(f"version {version.version} {refusal}", reason=reason)

    async def make_current(
        self, record: Record, version: Version, plugin: PluginDefinition, history: Sequence[str] | None = None
    ) -> Outcome:
        """`record` is the one to keep, but for what changes with the current version; `history` is what was current
        before it, where it is not what is current now. Raises `WrongState` where the version does not start; then
        nothing changed."""
        before = record.version(record.current)
        running = self._catalog.contents.plugins.get(record.plugin_id)
        try:
            await self._stage(record, plugin)
            await self._changes.commit(_trimmed(_with_current(record, version, history), self._kept))
        finally:
            # Nothing where the process was taken over.
            await to_the_end(self._supervisor.unstage(plugin.id))
        await self.clean(record.plugin_id)
        changed = config_changes(running, plugin)
        for one in changed:
            self._log.warning("configuration changed", runner_id=one.runner_id, field=one.field, change=one.message)
        return Outcome(record.plugin_id, before.version if before else "", config_changes=changed)

    async def _stage(self, record: Record, plugin: PluginDefinition) -> None:
        if record.disabled:
            return
        try:
            await self._supervisor.stage(plugin)
        except Unavailable as error:
            stays = "the one from before goes on" if record.installed else "nothing was installed"
            raise WrongState(
                f"version {plugin.version} of {plugin.id} does not start, so {stays}: {error.message}",
                reason=Reason.PLUGIN_DOES_NOT_START,
            ) from None

    async def keep_waiting(self, record: Record, version: Version) -> None:
        """Keeps a version that asks for more than was granted."""
        versions = (version, *(one for one in record.versions if one.digest != version.digest))
        waiting = (*(one for one in record.waiting if one != version.digest), version.digest)
        await self._changes.note(_trimmed(replace(record, versions=versions, waiting=waiting), self._kept))
        await self.clean(record.plugin_id)

    async def clean(self, plugin_id: str) -> None:
        """Removes folders of versions that are kept no more and that no process uses."""
        in_use = self._supervisor.folders_in_use()
        await asyncio.to_thread(self._inventory.clean, plugin_id, in_use)


def _with_current(record: Record, version: Version, history: Sequence[str] | None) -> Record:
    """The versions are in the order in which they were last used."""
    others = [one for one in record.versions if one.digest not in (version.digest, record.current)]
    last = [one for one in record.versions if one.digest == record.current != version.digest]
    versions = (version, *last, *others)
    before = [*record.history, *([record.current] if record.current else [])] if history is None else history
    return replace(
        record,
        current=version.digest,
        history=tuple(one for one in before if one != version.digest),
        waiting=tuple(one for one in record.waiting if one != version.digest),
        versions=versions,
    )


def _trimmed(record: Record, kept: int) -> Record:
    """Without the versions that are too many: those that were used longest ago, and the longest waiting."""
    waiting = tuple(record.waiting)[-kept:]
    used = [one.digest for one in record.versions if one.digest not in (record.current, *record.waiting)][:kept]
    stay = {record.current, *waiting, *used}
    versions = tuple(one for one in record.versions if one.digest in stay)
    history = tuple(one for one in record.history if one in stay)
    return replace(record, history=history, waiting=waiting, versions=versions)


def now() -> int:
    return int(time.time())
