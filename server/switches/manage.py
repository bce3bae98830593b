"""Stopping things at once, and letting them go on."""

import asyncio

from portway.rpc.identity import Caller
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.runs.open import OpenRuns
from portway.server.runs.types import RunFilter
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.server.switches.directory import KillSwitches
from portway.server.switches.store import switch_off, switch_on
from portway.server.switches.types import EVERY, KillSwitch, SwitchKind


class SwitchManager:
    """Every change is audited in the transaction that makes it."""

    def __init__(self, writer: Writer, switches: KillSwitches, open_runs: OpenRuns) -> None:
        self._writer = writer
        self._switches = switches
        self._open_runs = open_runs

    async def set(self, caller: Caller, kind: SwitchKind, target_id: str, *, on: bool, reason: str) -> KillSwitch:
        """It holds when this returns; runs of a stopped agent have been cancelled. Raises LimitExceeded."""
        workspace_id = caller.workspace_id

        def unit(tx: Transaction) -> KillSwitch:
            if on:
                switch = switch_on(tx, workspace_id, kind, target_id, reason)
            else:
                switch_off(tx, workspace_id, kind, target_id)
                switch = KillSwitch(workspace_id, kind, target_id, reason, tx.now)
            append_audit(tx, [_record(caller, switch, on)])
            return switch

        done = self._writer.submit(unit)
        # Not after the wait: a caller that goes away must not leave a switch on disk that nobody obeys.
        done.add_done_callback(lambda future: self._obey(future, on))
        switch = await asyncio.shield(done)
        if on and kind is SwitchKind.AGENT:
            which = RunFilter(agent_id="" if target_id == EVERY else target_id)
            await self._open_runs.end(workspace_id, which, "its agent was stopped by a kill switch")
        return switch

    def _obey(self, done: "asyncio.Future[KillSwitch]", on: bool) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        switch = done.result()
        if on:
            self._switches.turned_on(switch)
        else:
            self._switches.turned_off(switch.workspace_id, switch.kind, switch.target_id)


def _record(caller: Caller, switch: KillSwitch, on: bool) -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=switch.workspace_id,
        action="switch.on" if on else "switch.off",
        resource=f"{switch.kind} {switch.target_id}",
        allowed=True,
        role=caller.role.name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
        peer=caller.peer,
        details=switch.reason[:1_000],
    )
