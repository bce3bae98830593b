"""Managed processes of persistent sessions on disk, so that a restart of the box knows which ones it lost."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from portway.box.isolation.terminal import TerminalSize
from portway.box.processes.types import CommandRequest, RestartPolicy
from portway.box.sessions.store import key_of
from portway.box.sessions.types import SessionRef

_FILE = "processes.json"


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process that was started and whose end was not seen yet. Time in seconds since the epoch."""

    process_id: str
    command: CommandRequest
    policy: RestartPolicy
    start_time: float
    restart_count: int
    hold_output: bool = False


class ProcessRecords:
    """One file in the directory of each persistent session, with what runs there."""

    def __init__(self, sessions: Path) -> None:
        self._sessions = sessions

    def save(self, ref: SessionRef, records: list[ProcessRecord]) -> None:
        directory = self._sessions / key_of(ref)
        if not directory.is_dir():  # deleted meanwhile
            return
        writing = directory / f"{_FILE}.new"
        writing.write_text(json.dumps([asdict(record) for record in records]), encoding="utf-8")
        writing.chmod(0o600)
        writing.rename(directory / _FILE)

    def load(self, ref: SessionRef) -> Iterator[ProcessRecord]:
        file = self._sessions / key_of(ref) / _FILE
        try:
            for entry in json.loads(file.read_text(encoding="utf-8")):
                yield _record(entry)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            structlog.get_logger().error("the processes of a session cannot be read", file=str(file), error=repr(error))


def _record(entry: dict[str, Any]) -> ProcessRecord:
    command = dict(entry["command"])
    terminal = command.pop("terminal")
    command["argv"] = tuple(command["argv"])
    return ProcessRecord(
        entry["process_id"],
        CommandRequest(terminal=TerminalSize(**terminal) if terminal else None, **command),
        RestartPolicy(entry["policy"]),
        float(entry["start_time"]),
        int(entry["restart_count"]),
        bool(entry.get("hold_output")),
    )
