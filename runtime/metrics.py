"""What the runtime tells Prometheus of plugins and runs."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from portway.rpc.metrics.families import Counts, Family, gauge, gauges
from portway.runtime.installed.decisions import Decisions
from portway.runtime.installed.store import Records
from portway.runtime.installed.types import Record
from portway.runtime.runs.active import ActiveRuns
from portway.runtime.workers.supervisor import Supervisor
from portway.runtime.workers.types import WorkerState, WorkerStatus


class RuntimeNumbers:
    """Asked when somebody reads them. Labels are the plugins that are installed."""

    def __init__(self, supervisor: Supervisor, runs: ActiveRuns, decisions: Decisions, records: Records) -> None:
        self._decisions = decisions
        self._records = records
        self._supervisor = supervisor
        self._runs = runs

    async def families(self) -> Iterable[Family]:
        """See `Source`."""
        found = self._supervisor.statuses()
        memory = await asyncio.to_thread(_memory_of, {name: one.pid for name, one in found.items() if one.pid})
        records = self._records.all().values()
        states = Counts()
        for state in WorkerState:
            states.add(state.lower(), by=sum(one.state is state for one in found.values()))
        restarts = [((name,), float(one.restart_count)) for name, one in found.items()]
        return [
            gauge("portway_runtime_runs", "Runs and tool calls under way.", self._runs.count),
            Family(
                "portway_plugins", "gauge", "Plugins by the state of their process.", ("state",), list(states.items())
            ),
            gauges("portway_plugin_runs", "Runs in each plugin.", "plugin", _runs(found)),
            Family("portway_plugin_restarts", "counter", "Crashes of each plugin.", ("plugin",), restarts),
            Family(
                "portway_plugin_decisions",
                "counter",
                "What operators asked for about plugins, done or refused.",
                ("action", "outcome"),
                list(self._decisions.counts.items()),
            ),
            gauge("portway_plugins_disabled", "Plugins that operators disabled.", sum(one.disabled for one in records)),
            gauge("portway_plugin_versions", "Versions of installed plugins on disk.", sum(map(_kept, records))),
            gauges("portway_plugin_memory_bytes", "Resident memory of each plugin's process.", "plugin", memory),
        ]


def _kept(record: Record) -> int:
    return len(record.versions)


def _runs(found: Mapping[str, WorkerStatus]) -> dict[str, float]:
    return {name: float(one.run_count) for name, one in found.items()}


def _memory_of(pids: Mapping[str, int]) -> dict[str, float]:
    """Without those that have ended meanwhile."""
    page, memory = os.sysconf("SC_PAGE_SIZE"), dict[str, float]()
    for name, pid in pids.items():
        with suppress(OSError):
            memory[name] = float(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page)
    return memory
