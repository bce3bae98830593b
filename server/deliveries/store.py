"""Where the outbox is kept."""

from typing import Protocol

from portway.rpc.errors import NotFound, WrongState
from portway.server.deliveries.types import (
    Backlog,
    Channel,
    Delivery,
    DeliveryFilter,
    DeliveryState,
    NewDelivery,
    Outcome,
)
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, one_of, typed, values
from portway.server.storage_engine.transaction import Params, ReadTransaction, Row, SqlValue, Transaction

_COLUMNS = columns(Delivery)
_ID = "workspace_id = :workspace_id AND delivery_id = :delivery_id"
_BY_ID = f"SELECT {_COLUMNS} FROM deliveries WHERE {_ID}"
_FIELDS = columns(NewDelivery)
_INSERT = f"""
INSERT INTO deliveries ({_FIELDS}, sequence, state, create_time)
SELECT {", ".join(f":{name}" for name in _FIELDS.split(", "))}, COALESCE(MAX(sequence), 0) + 1, 'pending', :now
FROM deliveries WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id
ON CONFLICT (workspace_id, delivery_id) DO NOTHING RETURNING {_COLUMNS}
"""
# An acknowledgement counts however late it comes; nothing else changes what has ended.
_RECORD = f"""
UPDATE deliveries SET state = :state,
  attempts = attempts + CASE WHEN state = 'sent' THEN 0 ELSE 1 END, next_attempt_time = :next_attempt_time,
  error_code = :error_code, error_message = :error_message,
  end_time = CASE WHEN :state IN ('pending', 'unknown', 'sent') THEN 0 ELSE :now END,
  provider_message_id = CASE WHEN :provider_message_id = '' THEN provider_message_id ELSE :provider_message_id END
WHERE {_ID} AND (state IN ('pending', 'unknown', 'sent') OR (:state = 'acknowledged' AND state <> 'acknowledged'))
RETURNING {_COLUMNS}
"""
_REOPEN = f"""
UPDATE deliveries SET state = 'pending', next_attempt_time = 0, end_time = 0, expire_time = :expire_time
WHERE {_ID} AND state IN ('unknown', 'failed', 'expired', 'dead_letter') RETURNING {_COLUMNS}
"""
_DISCARD = f"""
UPDATE deliveries SET state = 'discarded', end_time = :now
WHERE {_ID} AND state NOT IN ('acknowledged', 'discarded') RETURNING {_COLUMNS}
"""
_TOO_OLD = """
SELECT workspace_id, delivery_id FROM deliveries
WHERE state = 'pending' AND expire_time > 0 AND expire_time <= :now LIMIT :limit
"""
_EXPIRE = f"""
UPDATE deliveries SET state = 'expired', end_time = :now
WHERE {_ID} AND state = 'pending' AND expire_time > 0 AND expire_time <= :now RETURNING {_COLUMNS}
"""
_DOUBT = f"""
UPDATE deliveries SET state = 'unknown', next_attempt_time = 0, error_code = 'NOT_CONFIRMED',
  error_message = 'The adapter sent it, and the platform has not confirmed it in time.'
WHERE (workspace_id, delivery_id) IN (
  SELECT workspace_id, delivery_id FROM deliveries
  WHERE state = 'sent' AND next_attempt_time > 0 AND next_attempt_time <= :now LIMIT :limit)
  AND state = 'sent' RETURNING {_COLUMNS}
"""
_OF_CHANNEL = "state = 'pending' AND workspace_id = :workspace_id AND surface = :surface AND bot_id = :bot_id"
_COUNT = f"SELECT COUNT(*) FROM (SELECT 1 FROM deliveries WHERE {_OF_CHANNEL} LIMIT :limit) AS found"
_ALL_PENDING = f"""
SELECT {_COLUMNS} FROM deliveries WHERE {_OF_CHANNEL} ORDER BY create_time, conversation_id, sequence LIMIT :limit
"""
_DUE = f"""
SELECT {_COLUMNS} FROM deliveries AS d WHERE {_OF_CHANNEL} AND next_attempt_time <= :now
  AND NOT EXISTS (
    SELECT 1 FROM deliveries AS e
    WHERE e.state = 'pending' AND e.workspace_id = d.workspace_id AND e.surface = d.surface AND e.bot_id = d.bot_id
      AND e.conversation_id = d.conversation_id AND e.sequence < d.sequence)
LIMIT :limit
"""
_CHANNELS = """
SELECT DISTINCT surface, bot_id FROM deliveries WHERE state = 'pending' AND workspace_id = :workspace_id
"""
_COUNTS = """
SELECT state, COUNT(*) FROM deliveries WHERE workspace_id = :workspace_id AND state = 'pending' GROUP BY state
UNION ALL
SELECT state, COUNT(*) FROM deliveries
WHERE workspace_id = :workspace_id AND state IN ('unknown', 'failed', 'dead_letter') GROUP BY state
"""
_PAGE = f"""
SELECT {_COLUMNS} FROM deliveries
WHERE workspace_id = :workspace_id AND (create_time, delivery_id) < (:create_time, :delivery_id)
  AND (:conversation_id = '' OR conversation_id = :conversation_id)
  AND (:run_id = '' OR run_id = :run_id) AND {{states}}
ORDER BY create_time DESC, delivery_id DESC LIMIT :limit
"""
_OF_RUN = f"""
SELECT {_COLUMNS} FROM deliveries WHERE workspace_id = :workspace_id AND run_id = :run_id AND run_id <> ''
ORDER BY create_time, sequence LIMIT :limit
"""

FIRST_PAGE = (2**62, "")


class Deliveries(Protocol):
    """What can be asked about deliveries."""

    async def delivery(self, workspace_id: str, delivery_id: str) -> Delivery:
        """Raises NotFound."""

    async def backlog(self, channel: Channel, capacity: int, limit: int) -> Backlog:
        """What the channel has to send: all of it where that is at most `capacity`, otherwise at most `limit` of what
        may go now, the next of each conversation."""

    async def pending_count(self, channel: Channel, limit: int) -> int:
        """How many it has to send; stops counting at `limit`."""

    async def channels(self, workspace_id: str) -> list[Channel]:
        """Those of the workspace that have something to send."""

    async def counts(self, workspace_id: str) -> dict[DeliveryState, int]:
        """How many are pending, and how many need a person (unknown, failed, dead letters)."""

    async def too_old(self, limit: int) -> list[tuple[str, str]]:
        """(workspace_id, delivery_id) of pending ones whose time is over, in every workspace."""

    async def of_run(self, workspace_id: str, run_id: str, limit: int) -> list[Delivery]:
        """Oldest first."""

    async def page(
        self, workspace_id: str, which: DeliveryFilter, after: tuple[int, str], limit: int
    ) -> list[Delivery]:
        """Newest first, after (create_time, delivery_id) (FIRST_PAGE to begin)."""


def enqueue_delivery(tx: Transaction, delivery: NewDelivery) -> Delivery:
    """Put a delivery into the outbox; answers it, or the one that has its id already."""
    row = tx.one(_INSERT, values(delivery, now=tx.now))
    if row is not None:
        return _delivery(row)
    return read_delivery(tx, delivery.workspace_id, delivery.delivery_id)


def record_outcome(tx: Transaction, workspace_id: str, delivery_id: str, outcome: Outcome) -> Delivery:
    """Note what became of a send; answers the delivery as it is now. Raises NotFound.

    What has ended stays as it is, but an acknowledgement counts however late it comes.
    """
    row = tx.one(_RECORD, values(outcome, workspace_id=workspace_id, delivery_id=delivery_id, now=tx.now))
    return _delivery(row) if row is not None else read_delivery(tx, workspace_id, delivery_id)


def retry_delivery(tx: Transaction, workspace_id: str, delivery_id: str, expire_time: int = 0) -> Delivery:
    """Somebody wants it sent again, under its id. Raises NotFound; WrongState while it is pending or done."""
    params: dict[str, SqlValue] = {
        "workspace_id": workspace_id,
        "delivery_id": delivery_id,
        "expire_time": expire_time,
    }
    row = tx.one(_REOPEN, params)
    if row is None:
        raise _wrong_state(tx, workspace_id, delivery_id, "tried again")
    return _delivery(row)


def discard_delivery(tx: Transaction, workspace_id: str, delivery_id: str) -> Delivery:
    """Somebody gives it up. Raises NotFound; WrongState when it was acknowledged or discarded before."""
    row = tx.one(_DISCARD, {"workspace_id": workspace_id, "delivery_id": delivery_id, "now": tx.now})
    if row is None:
        raise _wrong_state(tx, workspace_id, delivery_id, "discarded")
    return _delivery(row)


def expire_delivery(tx: Transaction, workspace_id: str, delivery_id: str) -> Delivery:
    """Give it up if its time is over; answers it as it is now. Raises NotFound."""
    row = tx.one(_EXPIRE, {"workspace_id": workspace_id, "delivery_id": delivery_id, "now": tx.now})
    return _delivery(row) if row is not None else read_delivery(tx, workspace_id, delivery_id)


def read_backlog(tx: ReadTransaction, channel: Channel, capacity: int, limit: int) -> Backlog:
    """What the channel has to send: all of it, or the next of each conversation that may go now."""
    params: Params = {
        "workspace_id": channel.workspace_id,
        "surface": channel.surface,
        "bot_id": channel.bot_id,
        "now": tx.now,
    }
    count = tx.one(_COUNT, {**params, "limit": capacity + 1})
    complete = count is None or count[0] <= capacity
    rows = tx.all(_ALL_PENDING if complete else _DUE, {**params, "limit": capacity if complete else limit})
    return Backlog(tuple(_delivery(row) for row in rows), complete, tx.now)


def doubt_sent(tx: Transaction, limit: int) -> list[Delivery]:
    """What was sent and should have been confirmed by now, in every workspace, is unknown; answers which."""
    return [_delivery(row) for row in tx.all(_DOUBT, {"now": tx.now, "limit": limit})]


def read_delivery(tx: ReadTransaction, workspace_id: str, delivery_id: str) -> Delivery:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id, "delivery_id": delivery_id})
    if row is None:
        raise NotFound.of("delivery", delivery_id)
    return _delivery(row)


def _delivery(row: Row) -> Delivery:
    return Delivery(*typed(row, (11, DeliveryState)))


def _wrong_state(tx: ReadTransaction, workspace_id: str, delivery_id: str, verb: str) -> WrongState:
    state = read_delivery(tx, workspace_id, delivery_id).state
    return WrongState(f"The delivery {delivery_id} is {state} and cannot be {verb}.")


class StoredDeliveries:
    """The outbox in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def delivery(self, workspace_id: str, delivery_id: str) -> Delivery:
        return await self._reader.look(lambda tx: read_delivery(tx, workspace_id, delivery_id))

    async def backlog(self, channel: Channel, capacity: int, limit: int) -> Backlog:
        return await self._reader.run(lambda tx: read_backlog(tx, channel, capacity, limit))

    async def pending_count(self, channel: Channel, limit: int) -> int:
        params = values(channel, limit=limit)
        row = await self._reader.run(lambda tx: tx.one(_COUNT, params))
        return int(row[0]) if row else 0

    async def channels(self, workspace_id: str) -> list[Channel]:
        rows = await self._reader.run(lambda tx: tx.all(_CHANNELS, {"workspace_id": workspace_id}))
        return [Channel(workspace_id, row[0], row[1]) for row in rows]

    async def counts(self, workspace_id: str) -> dict[DeliveryState, int]:
        rows = await self._reader.run(lambda tx: tx.all(_COUNTS, {"workspace_id": workspace_id}))
        return {DeliveryState(row[0]): int(row[1]) for row in rows}

    async def too_old(self, limit: int) -> list[tuple[str, str]]:
        rows = await self._reader.run(lambda tx: tx.all(_TOO_OLD, {"now": tx.now, "limit": limit}))
        return [(row[0], row[1]) for row in rows]

    async def of_run(self, workspace_id: str, run_id: str, limit: int) -> list[Delivery]:
        params: Params = {"workspace_id": workspace_id, "run_id": run_id, "limit": limit}
        return [_delivery(row) for row in await self._reader.run(lambda tx: tx.all(_OF_RUN, params))]

    async def page(
        self, workspace_id: str, which: DeliveryFilter, after: tuple[int, str], limit: int
    ) -> list[Delivery]:
        states, chosen = one_of("state", which.states)
        sql = _PAGE.format(states=states)
        params: Params = {
            "workspace_id": workspace_id,
            "conversation_id": which.conversation_id,
            "run_id": which.run_id,
            "create_time": after[0],
            "delivery_id": after[1],
            "limit": limit,
            **chosen,
        }
        return [_delivery(row) for row in await self._reader.run(lambda tx: tx.all(sql, params))]
