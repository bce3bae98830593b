"""Leases with fencing tokens, by the database's clock."""

from typing import Protocol

from portway.rpc.errors import NotFound, Reason, Stale
from portway.server.leases.types import Lease
from portway.server.storage_engine.clock import Micros
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer

_TAKE = """
INSERT INTO leases (workspace_id, name, holder, fencing_token, expire_time)
VALUES (:workspace_id, :name, :holder, 1, :expire_time)
ON CONFLICT (workspace_id, name) DO UPDATE SET
  holder = :holder, fencing_token = leases.fencing_token + 1, expire_time = :expire_time
WHERE leases.expire_time <= :now
RETURNING fencing_token
"""
_RENEW = """
UPDATE leases SET expire_time = :expire_time
WHERE workspace_id = :workspace_id AND name = :name AND fencing_token = :fencing_token AND expire_time > :now
"""
_RELEASE = """
UPDATE leases SET expire_time = 0
WHERE workspace_id = :workspace_id AND name = :name AND fencing_token = :fencing_token
"""

_READ = """
SELECT workspace_id, name, holder, fencing_token, expire_time FROM leases
WHERE workspace_id = :workspace_id AND name = :name AND expire_time > :now
"""


class Leases(Protocol):
    """Who may do what only one may do at a time. Times are the database's, so that hosts need no common clock."""

    async def acquire(self, workspace_id: str, name: str, holder: str, duration: Micros) -> Lease:
        """Take a lease that nobody holds. Raises Stale while another holder's has not expired."""

    async def renew(self, lease: Lease, duration: Micros) -> Lease:
        """Hold it longer. Raises Stale when it has expired or changed hands: all its side effects must stop."""

    async def release(self, lease: Lease) -> None:
        """Give it back; nothing happens when it was lost already."""

    async def held(self, workspace_id: str, name: str) -> Lease:
        """The lease as it is held now. Raises NotFound while nobody holds it."""


def acquire_lease(tx: Transaction, workspace_id: str, name: str, holder: str, duration: Micros) -> Lease:
    """Take a lease that nobody holds. Raises Stale while another holder's has not expired."""
    expire_time = tx.now + duration
    row = tx.one(
        _TAKE,
        {"workspace_id": workspace_id, "name": name, "holder": holder, "expire_time": expire_time, "now": tx.now},
    )
    if row is None:
        raise Stale(f"The lease {name!r} is held by another.", reason=Reason.ATTEMPT_SUPERSEDED)
    return Lease(workspace_id, name, holder, int(row[0]), expire_time)


def renew_lease(tx: Transaction, lease: Lease, duration: Micros) -> Lease:
    """Hold it longer. Raises Stale when it has expired or changed hands: its holder must stop all side effects."""
    expire_time = tx.now + duration
    changed = tx.execute(
        _RENEW,
        {
            "workspace_id": lease.workspace_id,
            "name": lease.name,
            "fencing_token": lease.fencing_token,
            "expire_time": expire_time,
            "now": tx.now,
        },
    )
    if not changed:
        raise Stale(f"The lease {lease.name!r} was lost.", reason=Reason.ATTEMPT_SUPERSEDED)
    return Lease(lease.workspace_id, lease.name, lease.holder, lease.fencing_token, expire_time)


def release_lease(tx: Transaction, lease: Lease) -> None:
    """Give it back; nothing happens when it was lost already."""
    tx.execute(
        _RELEASE,
        {"workspace_id": lease.workspace_id, "name": lease.name, "fencing_token": lease.fencing_token},
    )


class StoredLeases:
    """Leases in the database: between the hosts on PostgreSQL, within the one host on SQLite."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def acquire(self, workspace_id: str, name: str, holder: str, duration: Micros) -> Lease:
        return await self._writer.run(lambda tx: acquire_lease(tx, workspace_id, name, holder, duration))

    async def renew(self, lease: Lease, duration: Micros) -> Lease:
        return await self._writer.run(lambda tx: renew_lease(tx, lease, duration))

    async def release(self, lease: Lease) -> None:
        await self._writer.run(lambda tx: release_lease(tx, lease))

    async def held(self, workspace_id: str, name: str) -> Lease:
        row = await self._reader.run(
            lambda tx: tx.one(_READ, {"workspace_id": workspace_id, "name": name, "now": tx.now})
        )
        if row is None:
            raise NotFound.of("lease", name)
        return Lease(*row)
