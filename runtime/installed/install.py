"""Installing a zip: checked from the outside in, and made the current version only when all of it is well."""

import asyncio
import os
from dataclasses import dataclass, replace

from portway.rpc.errors import Conflict, FieldViolation, InvalidInput, Reason, WrongState
from portway.runtime.installed.asked import permissions_of
from portway.runtime.installed.changes import Changes
from portway.runtime.installed.folders import InstalledFolders
from portway.runtime.installed.order import is_older
from portway.runtime.installed.receive import IncomingZip
from portway.runtime.installed.store import FileRecords
from portway.runtime.installed.types import Record, Signature, Version
from portway.runtime.installed.unpack import Unpacked, unpack
from portway.runtime.installed.versions import Outcome, Versions, now
from portway.runtime.plugins.catalog import Catalog
from portway.runtime.plugins.plugin_manifest import read_plugin
from portway.runtime.plugins.types import BrokenPlugin, PluginDefinition
from portway.runtime.signing.judge import SignatureRules
from portway.runtime.waiting import to_the_end

_MEBIBYTE = 1024 * 1024
_TOLD = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for with a zip. `size` and `digest` are 0 and empty where they were not said."""

    force: bool = False
    allow_downgrade: bool = False
    grant: bool = False
    size: int = 0
    digest: str = ""
    request_id: str = ""
    key_id: str = ""
    signature: bytes = b""


class Installer:
    def __init__(
        self,
        folders: InstalledFolders,
        records: FileRecords,
        catalog: Catalog,
        changes: Changes,
        versions: Versions,
        signatures: SignatureRules,
        *,
        reserve_mb: int,
        replace_bundled: bool,
    ) -> None:
        self._folders = folders
        self._records = records
        self._catalog = catalog
        self._changes = changes
        self._versions = versions
        self._signatures = signatures
        self.reserve = reserve_mb * _MEBIBYTE
        self._replace_bundled = replace_bundled

    def known(self, wanted: Wanted) -> Outcome | None:
        """The answer to a request that was answered before. Raises `Conflict` where it was about another zip."""
        for record in self._records.all().values():
            if (request := record.request(wanted.request_id)) is not None:
                if request.digest != wanted.digest:
                    raise Conflict(
                        f"the request {wanted.request_id!r} was another one before; use a new id for each",
                        reason=Reason.SAME_KEY_OTHER_BODY,
                    )
                return Outcome(record.plugin_id, unchanged=True)
        return None

    def incoming(self, wanted: Wanted) -> IncomingZip:
        """A zip that is to arrive."""
        return IncomingZip(self._folders.incoming / os.urandom(8).hex(), wanted.size, wanted.digest)

    async def install(self, incoming: IncomingZip, wanted: Wanted) -> Outcome:
        """Raises as the contract says; then nothing of it stays."""
        digest = incoming.digest
        self._signatures.check(wanted.key_id, wanted.signature, digest)
        kept = next((one for one in self._records.all().values() if one.version(digest)), None)
        if kept is not None:
            return await self._install_kept(kept.plugin_id, digest, wanted)
        unpacked = incoming.path.with_name("files")
        made = await to_the_end(asyncio.to_thread(unpack, incoming.path, unpacked, self.reserve))
        plugin = _checked(await asyncio.to_thread(read_plugin, unpacked, bundled=False))
        async with self._changes.of(plugin.id) as record:
            self._check_source(plugin.id)
            version = self._version_of(plugin, digest, made, wanted)
            settled = False
            try:
                record = self._decided(record, version, wanted)
                settled = True
                await to_the_end(asyncio.to_thread(self._folders.settle, unpacked, version.folder))
                return await self._finish(record, version, wanted)
            except BaseException:
                if settled and self._records.get(plugin.id).version(digest) is None:
                    await asyncio.to_thread(self._folders.remove, version.folder)
                raise

    async def _install_kept(self, plugin_id: str, digest: str, wanted: Wanted) -> Outcome:
        """The same bytes as a version that is kept: the current one, an earlier one, or one that waits."""
        async with self._changes.of(plugin_id) as record:
            version = record.version(digest)
            if version is None:
                raise WrongState(f"the version of {plugin_id} was removed meanwhile; install it again")
            if record.current == digest:
                if wanted.request_id:
                    await self._changes.note(record.remembering(wanted.request_id, "install", digest))
                return Outcome(plugin_id, unchanged=True)
            if wanted.key_id:
                version = replace(version, signature=Signature(wanted.key_id, wanted.signature.hex()))
            return await self._finish(self._decided(record, version, wanted), version, wanted)

    async def _finish(self, record: Record, version: Version, wanted: Wanted) -> Outcome:
        plugin = await self._versions.definition(version, record.plugin_id)
        missing = record.ungranted(version)
        if missing:
            await self._versions.keep_waiting(record, version)
            raise WrongState(
                f"version {version.version} of {plugin.id} asks for more than was granted: {', '.join(missing)}. It is "
                f"kept and waits; `portway plugin grant {plugin.id}` grants that and makes it the current one",
                reason=Reason.PERMISSIONS_GROWN,
                facts={"version": version.version, "permissions": ",".join(missing)[:1000]},
            )
        record = record.remembering(wanted.request_id, "install", version.digest)
        return await self._versions.make_current(record, version, plugin)

    def _check_source(self, plugin_id: str) -> None:
        contents = self._catalog.contents
        there = contents.plugins.get(plugin_id) or contents.disabled.get(plugin_id) or contents.broken.get(plugin_id)
        if there is None or self._folders.owns(there.folder):
            return
        if not there.bundled:
            raise WrongState(
                f"{plugin_id} is in the operator's folder {there.folder}; remove it there before you install it",
                reason=Reason.MANAGED_BY_CONFIG,
            )
        if not self._replace_bundled:
            raise WrongState(
                f"{plugin_id} came with Portway and is not replaced; give yours another author or name, or set "
                "runtime.installing.replace_bundled",
                reason=Reason.PLUGIN_BUNDLED,
            )

    def _version_of(self, plugin: PluginDefinition, digest: str, made: Unpacked, wanted: Wanted) -> Version:
        return Version(
            version=plugin.version,
            digest=digest,
            folder=self._folders.name_for(plugin.id, plugin.version, digest),
            install_time=now(),
            permissions=permissions_of(plugin),
            signature=Signature(wanted.key_id, wanted.signature.hex()) if wanted.key_id else None,
            byte_count=made.byte_count,
            file_count=made.file_count,
        )

    def _decided(self, record: Record, version: Version, wanted: Wanted) -> Record:
        """The record with what is granted by this installation. Raises `Conflict`, `WrongState`."""
        current = record.version(record.current)
        other = next((one for one in record.versions if one.version == version.version), None)
        if other is not None and other.digest != version.digest and not wanted.force:
            raise Conflict(
                f"version {version.version} of {record.plugin_id} is here with other bytes (SHA-256 {other.digest}); "
                "give yours another version, or force it"
            )
        if current is not None and is_older(version.version, current.version) and not wanted.allow_downgrade:
            raise WrongState(
                f"version {version.version} of {record.plugin_id} is older than {current.version}, which is here; say "
                "that you want the older one (--downgrade), or go back with `portway plugin rollback`",
                reason=Reason.DOWNGRADE,
            )
        if wanted.grant or not record.installed:
            return replace(record, granted=tuple(sorted({*record.granted, *version.permissions})))
        return record


def _checked(plugin: PluginDefinition | BrokenPlugin) -> PluginDefinition:
    """Also a single component that cannot be used refuses the plugin: who packed it is there to correct it."""
    wrong = [one for one in plugin.problems if not one.warning]
    if not wrong and isinstance(plugin, PluginDefinition):
        return plugin
    told = [FieldViolation(one.location, one.message) for one in wrong[:_TOLD]]
    lines = "; ".join(f"{one.field}: {one.description}" for one in told)
    raise InvalidInput(f"the plugin cannot be used: {lines}", fields=told)
