"""Enabling and disabling listeners. Every change is audited in the transaction that makes it."""

from collections.abc import Callable

from portway.rpc.errors import NotFound
from portway.rpc.identity import Caller
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.listeners.feed import ListenerFeed
from portway.server.listeners.offered import OfferedListeners
from portway.server.listeners.store import disable_listener, enable_listener
from portway.server.listeners.types import Beginning, Listener
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer


class ListenerManager:
    def __init__(self, writer: Writer, offered: OfferedListeners, feed: ListenerFeed) -> None:
        self._writer = writer
        self._offered = offered
        self._feed = feed

    async def enable(self, caller: Caller, listener_id: str, beginning: Beginning) -> Listener:
        """Raises NotFound for one that no plugin brings, LimitExceeded."""
        if listener_id not in self._offered.wanted:
            known = ", ".join(sorted(self._offered.wanted)) or "none"
            raise NotFound(f"no plugin brings the listener {listener_id!r}; there are: {known}")
        workspace_id = caller.workspace_id
        found = await self._change(
            caller, listener_id, "listener.enable", lambda tx: enable_listener(tx, workspace_id, listener_id, beginning)
        )
        self._feed.stop(workspace_id, listener_id)
        return found

    async def disable(self, caller: Caller, listener_id: str) -> Listener:
        """What it is shown now is broken off. Raises NotFound where it is not enabled."""
        workspace_id = caller.workspace_id
        found = await self._change(
            caller, listener_id, "listener.disable", lambda tx: disable_listener(tx, workspace_id, listener_id)
        )
        self._feed.stop(workspace_id, listener_id)
        return found

    async def _change(
        self, caller: Caller, listener_id: str, action: str, change: Callable[[Transaction], Listener]
    ) -> Listener:
        def unit(tx: Transaction) -> Listener:
            listener = change(tx)
            append_audit(tx, [_record(caller, listener_id, action)])
            return listener

        return await self._writer.run(unit)


def _record(caller: Caller, listener_id: str, action: str) -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=caller.workspace_id,
        action=action,
        resource=f"listener {listener_id}",
        allowed=True,
        role=caller.role.name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
        peer=caller.peer,
    )
