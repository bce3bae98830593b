"""Puts together what manages plugins."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from portway.runtime.installed.changes import Changes
from portway.runtime.installed.config import InstallingConfig
from portway.runtime.installed.decisions import Decisions
from portway.runtime.installed.folders import InstalledFolders
from portway.runtime.installed.install import Installer
from portway.runtime.installed.inventory import Inventory, Sources
from portway.runtime.installed.manage import PluginKeeping
from portway.runtime.installed.store import FileRecords
from portway.runtime.installed.versions import Versions
from portway.runtime.kept.folders import PluginFolders
from portway.runtime.plugins.catalog import Catalog
from portway.runtime.signing.judge import SignatureRules
from portway.runtime.signing.keys import TrustedKeys
from portway.runtime.workers.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Stored:
    """What is on disk. Made before there are processes."""

    folders: InstalledFolders
    records: FileRecords
    inventory: Inventory
    signatures: SignatureRules


@dataclass(frozen=True, slots=True)
class Managed:
    """What others use."""

    stored: Stored
    changes: Changes
    installer: Installer
    keeping: PluginKeeping
    decisions: Decisions


def open_stored(config: InstallingConfig, root: Path, bundled: Sequence[Path], added: Sequence[Path]) -> Stored:
    """Blocking: reads the records, and removes what a killed change left."""
    folders = InstalledFolders(root)
    records = FileRecords(folders.records)
    signatures = SignatureRules(TrustedKeys(config.trusted_keys.values()), required=config.require_signature)
    inventory = Inventory(Sources(bundled, added), folders, records, signatures, replace_bundled=config.replace_bundled)
    inventory.open()
    return Stored(folders, records, inventory, signatures)


def build_managed(
    config: InstallingConfig, stored: Stored, catalog: Catalog, supervisor: Supervisor, kept: PluginFolders
) -> Managed:
    changes = Changes(stored.records, catalog, supervisor)
    versions = Versions(stored.inventory, changes, catalog, supervisor, stored.signatures, kept=config.kept_versions)
    installer = Installer(
        stored.folders,
        stored.records,
        catalog,
        changes,
        versions,
        stored.signatures,
        reserve_mb=config.reserve_mb,
        replace_bundled=config.replace_bundled,
    )
    keeping = PluginKeeping(catalog, supervisor, changes, versions, kept)
    return Managed(stored, changes, installer, keeping, Decisions())
