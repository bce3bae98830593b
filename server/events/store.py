"""Where the event log is kept."""

from typing import Protocol

from portway.rpc.errors import Conflict, NotFound, Reason
from portway.server.events.types import Accepted, Event, EventFilter, EventOutcome, NewEvent
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, one_of, typed, values
from portway.server.storage_engine.sequences import allocate, latest
from portway.server.storage_engine.transaction import Params, ReadTransaction, Row, Transaction

STREAM = "events"

_COLUMNS = columns(Event)
_BY_KEY = """
SELECT event_id, sequence, run_id, conversation_id, item_id, outcome, body_hash FROM events
WHERE workspace_id = :workspace_id AND source = :source AND dedupe_key = :dedupe_key
"""
_BY_ID = f"SELECT {_COLUMNS} FROM events WHERE workspace_id = :workspace_id AND event_id = :event_id"
_BY_MESSAGE = f"""
SELECT {_COLUMNS} FROM events
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id
  AND provider_message_id = :message_id AND provider_message_id <> ''
ORDER BY sequence DESC LIMIT 1
"""
_MESSAGE = f"""
SELECT {_COLUMNS} FROM events
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id
  AND provider_message_id = :message_id AND provider_message_id <> '' AND type = 'message.received'
ORDER BY sequence DESC LIMIT 1
"""
_ABOUT = f"""
SELECT {_COLUMNS} FROM events
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id
  AND provider_message_id = :message_id AND provider_message_id <> ''
ORDER BY sequence LIMIT :limit
"""
_LATER = """
SELECT event_id FROM events
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id
  AND provider_message_id = :message_id AND provider_message_id <> ''
  AND (type = 'message.recalled' OR (type = 'message.edited' AND :time > 0 AND event_time > :time))
LIMIT 1
"""
_PAGE = f"""
SELECT {_COLUMNS} FROM events
WHERE workspace_id = :workspace_id AND sequence < :before AND {{conversation}} AND {{types}}
ORDER BY sequence DESC LIMIT :limit
"""
_FOLLOW = f"""
SELECT {_COLUMNS} FROM events WHERE workspace_id = :workspace_id AND sequence > :after ORDER BY sequence LIMIT :limit
"""
_OUTCOME = """
UPDATE events SET outcome = :outcome, outcome_reason = :reason, run_id = :run_id
WHERE workspace_id = :workspace_id AND event_id = :event_id
"""

# Larger than any sequence, so that "before nothing" means "from the newest".
NEWEST = 2**62


class EventLog(Protocol):
    """What can be asked of the event log."""

    async def event(self, workspace_id: str, event_id: str) -> Event:
        """Raises NotFound."""

    async def event_of_message(self, workspace_id: str, conversation_id: str, message_id: str) -> Event:
        """The newest event about a platform message. Raises NotFound."""

    async def message(self, workspace_id: str, conversation_id: str, message_id: str) -> Event:
        """The event of a platform message itself. Raises NotFound."""

    async def about(self, workspace_id: str, conversation_id: str, message_id: str, limit: int) -> list[Event]:
        """Everything about a platform message, oldest first."""

    async def page(self, workspace_id: str, which: EventFilter, before: int, limit: int) -> list[Event]:
        """Newest first, below sequence `before` (NEWEST for the first page)."""

    async def follow(self, workspace_id: str, after: int, limit: int) -> list[Event]:
        """Oldest first, above sequence `after`."""

    async def latest_sequence(self, workspace_id: str) -> int:
        """0 before the first event."""


def find_duplicate(tx: ReadTransaction, event: NewEvent) -> Accepted | None:
    """What an earlier submit with this key led to; nothing when there was none.

    Raises Conflict when the key was used for another body.
    """
    row = tx.one(
        _BY_KEY,
        {"workspace_id": event.workspace_id, "source": event.source, "dedupe_key": event.dedupe_key},
    )
    if row is None:
        return None
    if row[6] != event.body_hash:
        raise Conflict(
            f"The key {event.dedupe_key!r} of source {event.source!r} was used for another event ({row[0]}). Use a new "
            "key for a new event; send the same body again only to retry.",
            reason=Reason.SAME_KEY_OTHER_BODY,
        )
    return Accepted(*typed((*row[:6], True), (5, EventOutcome)))


def find_by_key(tx: ReadTransaction, workspace_id: str, source: str, key: str) -> Accepted | None:
    """What was accepted under a key, whatever its body."""
    row = tx.one(_BY_KEY, {"workspace_id": workspace_id, "source": source, "dedupe_key": key})
    return Accepted(*typed((*row[:6], True), (5, EventOutcome))) if row is not None else None


def find_later_amendment(tx: ReadTransaction, event: NewEvent, original: Event) -> str:
    """An edit of the same message that is newer by the platform's clock, or its recall; '' for none."""
    params: Params = {
        "workspace_id": event.workspace_id,
        "conversation_id": original.conversation_id,
        "message_id": event.provider_message_id,
        "time": event.event_time,
    }
    row = tx.one(_LATER, params)
    return str(row[0]) if row is not None else ""


def append_event(tx: Transaction, event: NewEvent) -> Accepted:
    """Append an event that has no duplicate: call `find_duplicate` in the same unit before anything else is written."""
    sequence = allocate(tx, event.workspace_id, STREAM)
    tx.insert_many("events", [values(event, sequence=sequence, accept_time=tx.now)])
    return Accepted(
        event.event_id, sequence, event.run_id, event.conversation_id, event.item_id, event.outcome, duplicate=False
    )


def set_outcome(
    tx: Transaction, workspace_id: str, event_id: str, outcome: EventOutcome, reason: str = "", run_id: str = ""
) -> None:
    """What the event led to in the end, where that was not known when it was accepted."""
    params = {
        "workspace_id": workspace_id,
        "event_id": event_id,
        "outcome": outcome,
        "reason": reason,
        "run_id": run_id,
    }
    if not tx.execute(_OUTCOME, params):
        raise NotFound.of("event", event_id)


def read_event(tx: ReadTransaction, workspace_id: str, event_id: str) -> Event:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id, "event_id": event_id})
    if row is None:
        raise NotFound.of("event", event_id)
    return _event(row)


def _event(row: Row) -> Event:
    return Event(*typed(row, (15, EventOutcome)))


class StoredEventLog:
    """The event log in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def event(self, workspace_id: str, event_id: str) -> Event:
        return await self._reader.look(lambda tx: read_event(tx, workspace_id, event_id))

    async def event_of_message(self, workspace_id: str, conversation_id: str, message_id: str) -> Event:
        params = {"workspace_id": workspace_id, "conversation_id": conversation_id, "message_id": message_id}
        row = await self._reader.look(lambda tx: tx.one(_BY_MESSAGE, params))
        if row is None:
            raise NotFound.of("message", message_id)
        return _event(row)

    async def message(self, workspace_id: str, conversation_id: str, message_id: str) -> Event:
        params = {"workspace_id": workspace_id, "conversation_id": conversation_id, "message_id": message_id}
        row = await self._reader.look(lambda tx: tx.one(_MESSAGE, params))
        if row is None:
            raise NotFound.of("message", message_id)
        return _event(row)

    async def about(self, workspace_id: str, conversation_id: str, message_id: str, limit: int) -> list[Event]:
        params: Params = {
            "workspace_id": workspace_id,
            "conversation_id": conversation_id,
            "message_id": message_id,
            "limit": limit,
        }
        return [_event(row) for row in await self._reader.run(lambda tx: tx.all(_ABOUT, params))]

    async def page(self, workspace_id: str, which: EventFilter, before: int, limit: int) -> list[Event]:
        types, chosen = one_of("type", which.types)
        conversation = "conversation_id = :conversation_id" if which.conversation_id else "true"
        sql = _PAGE.format(conversation=conversation, types=types)
        params: Params = {
            "workspace_id": workspace_id,
            "conversation_id": which.conversation_id,
            "before": before,
            "limit": limit,
            **chosen,
        }
        return [_event(row) for row in await self._reader.run(lambda tx: tx.all(sql, params))]

    async def follow(self, workspace_id: str, after: int, limit: int) -> list[Event]:
        params: Params = {"workspace_id": workspace_id, "after": after, "limit": limit}
        return [_event(row) for row in await self._reader.run(lambda tx: tx.all(_FOLLOW, params))]

    async def latest_sequence(self, workspace_id: str) -> int:
        return await self._reader.run(lambda tx: latest(tx, workspace_id, STREAM))
