"""Where the outbox is kept."""

from typing import Protocol

from portway.rpc.errors import NotFound, WrongState
from portway.server.deliveries.types import Delivery, DeliveryFilter, DeliveryState, NewDelivery, Outcome
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
UPDATE deliveries SET state = :state, attempts = attempts + 1, next_attempt_time = :next_attempt_time,
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
_EXPIRE = f"""
UPDATE deliveries SET state = 'expired', end_time = :now
WHERE state IN ('pending', 'unknown') AND state = 'pending' AND surface = :surface
  AND expire_time > 0 AND expire_time <= :now
RETURNING {_COLUMNS}
"""
_OPEN = f"""
SELECT {_COLUMNS} FROM deliveries
WHERE state IN ('pending', 'unknown') AND surface = :surface
  AND (create_time, delivery_id) > (:create_time, :delivery_id)
ORDER BY create_time, delivery_id LIMIT :limit
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

    async def open_on(self, surface: str, after: Delivery | None, limit: int) -> list[Delivery]:
        """Pending and unknown ones of every workspace for one surface, oldest first: what its adapter finds on connecting."""

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


def expire_deliveries(tx: Transaction, surface: str) -> list[Delivery]:
    """Give up what has waited too long; answers what was given up."""
    return [_delivery(row) for row in tx.all(_EXPIRE, {"surface": surface, "now": tx.now})]


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
        return await self._reader.run(lambda tx: read_delivery(tx, workspace_id, delivery_id))

    async def open_on(self, surface: str, after: Delivery | None, limit: int) -> list[Delivery]:
        params: Params = {
            "surface": surface,
            "create_time": after.create_time if after else 0,
            "delivery_id": after.delivery_id if after else "",
            "limit": limit,
        }
        return [_delivery(row) for row in await self._reader.run(lambda tx: tx.all(_OPEN, params))]

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
