"""Where kill switches are kept: those that are on."""

from typing import Protocol

from portway.rpc.errors import LimitExceeded, Quota
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, typed
from portway.server.storage_engine.transaction import Params, Row, Transaction
from portway.server.switches.types import KillSwitch, SwitchKind

_COLUMNS = columns(KillSwitch)
_ON = """
INSERT INTO kill_switches (workspace_id, kind, target_id, reason, update_time)
VALUES (:workspace_id, :kind, :target_id, :reason, :now)
ON CONFLICT (workspace_id, kind, target_id) DO UPDATE SET reason = excluded.reason
RETURNING update_time
"""
_OFF = "DELETE FROM kill_switches WHERE workspace_id = :workspace_id AND kind = :kind AND target_id = :target_id"
_COUNT = "SELECT count(*) FROM kill_switches WHERE workspace_id = :workspace_id"
_ALL = f"""
SELECT {_COLUMNS} FROM kill_switches WHERE (workspace_id, kind, target_id) > (:workspace_id, :kind, :target_id)
ORDER BY workspace_id, kind, target_id LIMIT :limit
"""
_PAGE = f"""
SELECT {_COLUMNS} FROM kill_switches
WHERE workspace_id = :workspace_id AND (kind, target_id) > (:kind, :target_id) ORDER BY kind, target_id LIMIT :limit
"""

MAX_SWITCHES = 1_000
FIRST_PAGE = ("", "")


class StoredSwitches(Protocol):
    """What can be asked about kill switches."""

    async def page(self, workspace_id: str, after: tuple[str, str], limit: int) -> list[KillSwitch]:
        """By kind and target, after such a pair (FIRST_PAGE to begin)."""

    async def every(self, after: tuple[str, str, str], limit: int) -> list[KillSwitch]:
        """Of all workspaces, after (workspace, kind, target)."""


def switch_on(tx: Transaction, workspace_id: str, kind: SwitchKind, target_id: str, reason: str) -> KillSwitch:
    """On since now, or since before. Raises LimitExceeded for too many of a workspace."""
    count = tx.one(_COUNT, {"workspace_id": workspace_id})
    if count is not None and count[0] >= MAX_SWITCHES:
        raise LimitExceeded(
            f"{MAX_SWITCHES} kill switches are on already. Take some off, or stop all of a kind with the target `*`.",
            quota=Quota(workspace_id, f"{MAX_SWITCHES} kill switches"),
        )
    what: Params = {"workspace_id": workspace_id, "kind": kind, "target_id": target_id}
    params: Params = {**what, "reason": reason, "now": tx.now}
    row = tx.one(_ON, params)
    return KillSwitch(workspace_id, kind, target_id, reason, row[0] if row else tx.now)


def switch_off(tx: Transaction, workspace_id: str, kind: SwitchKind, target_id: str) -> bool:
    """Off; true where it was on."""
    return bool(tx.execute(_OFF, {"workspace_id": workspace_id, "kind": kind, "target_id": target_id}))


class SwitchTable:
    """Kill switches in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(self, workspace_id: str, after: tuple[str, str], limit: int) -> list[KillSwitch]:
        params: Params = {"workspace_id": workspace_id, "kind": after[0], "target_id": after[1], "limit": limit}
        return [_switch(row) for row in await self._reader.run(lambda tx: tx.all(_PAGE, params))]

    async def every(self, after: tuple[str, str, str], limit: int) -> list[KillSwitch]:
        params: Params = {"workspace_id": after[0], "kind": after[1], "target_id": after[2], "limit": limit}
        return [_switch(row) for row in await self._reader.run(lambda tx: tx.all(_ALL, params))]


def _switch(row: Row) -> KillSwitch:
    return KillSwitch(*typed(row, (1, SwitchKind)))
