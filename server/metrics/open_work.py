"""What waits, is connected, or needs a person now: asked when somebody reads the metrics, by partial indexes."""

from collections.abc import Callable, Iterable
from typing import Protocol

from portway.rpc.metrics.families import Counts, Family, counted, counter, gauge, gauges
from portway.server.adapters.connection import Connections
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.transaction import ReadTransaction

# Each by its own index; what has ended is not counted, for it grows without an end.
_DELIVERIES = {
    "pending": "SELECT count(*) FROM deliveries WHERE state = 'pending'",
    "sent": "SELECT count(*) FROM deliveries WHERE state = 'sent'",
}
_STUCK = """
SELECT state, count(*) FROM deliveries WHERE state IN ('unknown', 'failed', 'dead_letter') GROUP BY state
"""
_APPROVALS = "SELECT count(*) FROM approvals WHERE state = 'pending'"


class Scheduler(Protocol):
    """Runs that wait and execute."""

    @property
    def waiting_count(self) -> int: ...
    @property
    def active_count(self) -> int: ...


class Audit(Protocol):
    """Decisions that are not written yet."""

    @property
    def waiting_count(self) -> int: ...


class OpenWork:
    """Figures of now."""

    def __init__(
        self,
        reader: Reader,
        runs: Scheduler,
        audit: Audit,
        connections: Connections,
        links: Callable[[], dict[str, bool]],
        warnings: Counts,
        retries: Callable[[], dict[str, int]],
    ) -> None:
        self._reader = reader
        self._runs = runs
        self._audit = audit
        self._connections = connections
        self._links = links
        self._warnings = warnings
        self._retries = retries

    async def families(self) -> Iterable[Family]:
        """See `Source`."""
        deliveries, approvals = await self._reader.run(_counted)
        links = {name: float(up) for name, up in self._links().items()}
        retries = [((provider,), float(count)) for provider, count in self._retries().items()]
        return [
            gauge("portway_runs_waiting", "Runs in the queue.", self._runs.waiting_count),
            gauge("portway_runs_active", "Runs that execute.", self._runs.active_count),
            gauges("portway_deliveries", "Deliveries that have not ended well, by state.", "state", deliveries),
            gauge("portway_approvals_waiting", "Approvals that wait for a person.", approvals),
            gauge("portway_audit_waiting", "Decisions that are not on disk yet.", self._audit.waiting_count),
            gauge("portway_adapters_connected", "Adapters that are connected.", sum(1 for _ in self._connections)),
            counter("portway_adapter_connects", "Connections of adapters so far.", self._connections.entered_count),
            gauges("portway_link_up", "1 where the host reaches the part.", "part", links),
            counted("portway_budget_notices", "Budgets nearly spent, and spent.", ("level", "notice"), self._warnings),
            Family("portway_model_retries", "counter", "Calls of a provider tried again.", ("provider",), retries),
        ]


def _counted(tx: ReadTransaction) -> tuple[dict[str, float], float]:
    deliveries = {state: float(tx.all(query, {})[0][0]) for state, query in _DELIVERIES.items()}
    deliveries |= {state: 0.0 for state in ("unknown", "failed", "dead_letter")}
    deliveries |= {str(state): float(count) for state, count in tx.all(_STUCK, {})}
    return deliveries, float(tx.all(_APPROVALS, {})[0][0])
