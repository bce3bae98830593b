"""Where records are kept: a file for each plugin, replaced in one step: a kill leaves the old one or the new."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from portway.rpc.errors import LimitExceeded, Reason, Stale
from portway.runtime.installed.disk import replace_file, sync_folder
from portway.runtime.installed.record_json import UnreadableRecord, read_record, write_record
from portway.runtime.installed.types import Record
from portway.runtime.plugins.types import Problem

MAX_RECORDS = 2000
_SUFFIX = ".json"


class Records(Protocol):
    """What can be asked of records. Blocking."""

    def all(self) -> Mapping[str, Record]:
        """By plugin, also of plugins that were removed and are remembered."""

    def get(self, plugin_id: str) -> Record:
        """The record; one of generation 0 of a plugin that nothing was decided about."""

    def put(self, record: Record) -> Record:
        """Keeps a changed record, on disk before it returns, as the next generation. `record.generation` is the one
        that was changed: raises `Stale` where there is a newer one."""

    def problems(self) -> Sequence[Problem]:
        """Files that cannot be read as records."""


class FileRecords:
    """Records in files. One runtime at a time writes here: the data folder is locked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records: dict[str, Record] = {}
        self._unreadable: dict[Path, Problem] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in sorted(folder.iterdir()):
            self._take(file)

    def _take(self, file: Path) -> None:
        if file.suffix != _SUFFIX:
            # What a kill left of a file that was being written.
            file.unlink(missing_ok=True)
            return
        try:
            record = read_record(file.read_bytes())
            if self._file(record.plugin_id) != file:
                raise UnreadableRecord(f"is the record of {record.plugin_id}, under another name")
        except (OSError, UnreadableRecord) as error:
            message = f"{error}; put it back from a copy, or remove it and install the plugin again"
            self._unreadable[file] = Problem(_plugin_of(file), str(file), message)
        else:
            self._records[record.plugin_id] = record

    def _file(self, plugin_id: str) -> Path:
        # Names of authors and plugins hold no dot.
        return self._folder / f"{plugin_id.replace('/', '.')}{_SUFFIX}"

    def all(self) -> Mapping[str, Record]:
        return dict(self._records)

    def get(self, plugin_id: str) -> Record:
        return self._records.get(plugin_id) or Record(plugin_id)

    def put(self, record: Record) -> Record:
        known = self.get(record.plugin_id)
        if known.generation != record.generation:
            raise Stale(
                f"the plugin {record.plugin_id} was changed meanwhile (generation {known.generation}, not "
                f"{record.generation}); look at it, then ask again"
            )
        if record.plugin_id not in self._records and len(self._records) >= MAX_RECORDS:
            raise LimitExceeded(f"{MAX_RECORDS} plugins are known here; remove one", reason=Reason.QUOTA_EXCEEDED)
        kept = replace(record, generation=record.generation + 1)
        file = self._file(record.plugin_id)
        replace_file(file, write_record(kept))
        self._records[record.plugin_id] = kept
        self._unreadable.pop(file, None)
        return kept

    def forget(self, plugin_ids: Sequence[str]) -> None:
        """Drops records of which nothing is to be remembered any more."""
        for plugin_id in plugin_ids:
            os.unlink(self._file(plugin_id))
            del self._records[plugin_id]
        sync_folder(self._folder)

    def problems(self) -> Sequence[Problem]:
        return tuple(self._unreadable.values())


def _plugin_of(file: Path) -> str:
    return file.name.removesuffix(_SUFFIX).replace(".", "/")
