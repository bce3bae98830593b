"""What one call of a component may ask the host for: the storage of its own plugin, in the workspace of its caller."""

import time
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from portway.rpc.errors import DeadlineExceeded, InvalidInput, NotPermitted
from portway.server.audit.types import NewAuditRecord
from portway.server.events.guards import Audit
from portway.server.storage.types import Area, StorageSpace
from portway.server.storage_engine.transaction import Transaction
from portway.v1 import run_pull_pb2

STORAGE = "storage.plugin"


class Backing(Protocol):
    """The run on whose behalf a component works."""

    def check_alive(self) -> None:
        """Raises where the run has ended."""

    def guard(self, tx: Transaction) -> None:
        """Raises Stale in a transaction of an attempt that was superseded."""

    async def pay(self, size: int) -> None:
        """Bytes that are about to be kept. Raises LimitExceeded (BUDGET_EXHAUSTED)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentScope:
    """One call. `component_id` is `author/name/component`; `deadline` is of the loop's own clock, in seconds; there is
    no `backing` outside of runs."""

    workspace_id: str
    kind: str
    component_id: str
    permissions: AbstractSet[str]
    deadline: float
    audit: Audit
    run_id: str = ""
    backing: Backing | None = None

    def check_alive(self) -> None:
        """Raises DeadlineExceeded, and what the run raises."""
        if self.backing is not None:
            self.backing.check_alive()
        if time.monotonic() > self.deadline:
            raise DeadlineExceeded(f"the time of the call of {self.component_id} is over")

    def space(self, area: int, action: str) -> StorageSpace:
        """Raises NotPermitted for everything but the plugin's own storage, and that where it was not asked for."""
        self.check_alive()
        if area == run_pull_pb2.STORAGE_AREA_UNSPECIFIED:
            raise InvalidInput.field("area", "names whose bytes they are: plugin")
        if area != run_pull_pb2.STORAGE_AREA_PLUGIN or STORAGE not in self.permissions:
            raise self.refused(action)
        return StorageSpace(self.workspace_id, Area.PLUGIN, self.component_id.rpartition("/")[0])

    def guard(self, tx: Transaction) -> None:
        if self.backing is not None:
            self.backing.guard(tx)

    async def pay(self, size: int) -> None:
        if self.backing is not None:
            await self.backing.pay(size)

    def refused(self, action: str) -> NotPermitted:
        """The refusal, which is in the audit."""
        self.audit.record(
            NewAuditRecord(
                workspace_id=self.workspace_id,
                action=action,
                resource=f"{self.kind} {self.component_id}",
                allowed=False,
                reason="not granted",
                role="component",
                subject=self.component_id,
                run_id=self.run_id,
            )
        )
        granted = f"{STORAGE}, in its own area" if STORAGE in self.permissions else "nothing"
        return NotPermitted(f"{action} is not for the {self.kind} {self.component_id}: it may use {granted}")
