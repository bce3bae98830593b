"""Erasing the data of a user or of a conversation, piece by piece: each unit is small, and may be done again."""

from collections.abc import Callable, Sequence
from functools import partial

from portway.rpc.outcome import outcome_of
from portway.server.deliveries.outbox import Outbox
from portway.server.erasure.files import FileEraser
from portway.server.erasure.redact import (
    close_conversation,
    drop_state,
    is_chat_of,
    items_of,
    redact_contexts,
    redact_deliveries,
    redact_event,
    redact_items,
    redact_run,
)
from portway.server.erasure.store import advance_erasure
from portway.server.erasure.types import Erasure, ErasureKind
from portway.server.erasure.wire import surface_of
from portway.server.runs.open import OpenRuns
from portway.server.runs.types import RunFilter
from portway.server.snapshot.freeze import joined
from portway.server.state.types import Scope
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Params, Row, Transaction

_AT_ONCE = 100
_EVENTS = """
SELECT sequence, event_id, actor_id, conversation_id, payload FROM events
WHERE workspace_id = :workspace_id AND sequence > :position AND accept_time <= :until
ORDER BY sequence LIMIT :limit
"""
_RUNS_OF_EVENT = "SELECT run_id FROM runs WHERE workspace_id = :workspace_id AND event_id = :event_id"
_RUNS = """
SELECT run_id FROM runs
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id AND run_id > :after
ORDER BY run_id LIMIT :limit
"""
_PENDING = """
SELECT delivery_id FROM deliveries
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id AND state = 'pending' LIMIT 1000
"""
_FORKS = """
SELECT conversation_id FROM conversations WHERE workspace_id = :workspace_id AND forked_from = :conversation_id
"""
# The same id on another platform is another person.
_SAID_BY = """
actor_id = :actor_id AND actor_id <> '' AND conversation_id IN (
  SELECT conversation_id FROM conversations
  WHERE workspace_id = :workspace_id AND (surface = :surface OR (surface = '' AND :surface = 'api')))
"""


class Eraser:
    """`run` does one erasure of a user or a conversation, from where it is."""

    def __init__(self, database: Database, open_runs: OpenRuns, outbox: Outbox, files: FileEraser) -> None:
        self._database = database
        self._open_runs = open_runs
        self._outbox = outbox
        self._files = files

    async def run(self, erasure: Erasure) -> None:
        """Raises a PortwayError where it cannot go on for now."""
        if erasure.kind is ErasureKind.CONVERSATION:
            await self._stop(erasure, erasure.subject_id)
        await self._walk_events(erasure)
        if erasure.kind is ErasureKind.CONVERSATION:
            await self._conversation(erasure)
        else:
            await self._user(erasure)

    async def _walk_events(self, erasure: Erasure) -> None:
        position = erasure.position
        while rows := await self._read(_EVENTS, erasure, position=position, until=erasure.create_time, limit=_AT_ONCE):
            for sequence, event_id, actor_id, conversation_id, payload in rows:
                if _is_meant(erasure, actor_id, conversation_id, payload):
                    await self._event(erasure, sequence, event_id, actor_id, conversation_id, payload)
            position = rows[-1][0]
            await self._write(erasure, lambda tx: 0, position)

    async def _event(
        self, erasure: Erasure, sequence: int, event_id: str, actor_id: str, conversation_id: str, payload: bytes
    ) -> None:
        """One event, and everything that came of it."""
        workspace_id = erasure.workspace_id
        if conversation_id:
            await self._stop(erasure, conversation_id)
        run_ids = [row[0] for row in await self._read(_RUNS_OF_EVENT, erasure, event_id=event_id)]
        await self._files.artifacts(erasure, "event_id = :event_id", {"event_id": event_id})
        for run_id in run_ids:
            await self._files.artifacts(erasure, "run_id = :run_id", {"run_id": run_id})
            await self._write(erasure, partial(_redact_run, workspace_id, run_id))
            await self._items(erasure, conversation_id, run_id)
        forks = await self._family(erasure, conversation_id)

        def unit(tx: Transaction) -> int:
            changed = redact_contexts(tx, workspace_id, conversation_id) if conversation_id else 0
            if conversation_id and is_chat_of(tx, workspace_id, conversation_id, actor_id):
                changed += close_conversation(tx, workspace_id, conversation_id)
            for one in forks:
                params: Params = {"conversation_id": one, "event_id": event_id}
                condition = "conversation_id = :conversation_id AND event_id = :event_id"
                changed += redact_items(tx, workspace_id, items_of(tx, workspace_id, condition, params, _AT_ONCE))
            # Last, because it is what the erasure is found by when it goes on after a kill.
            return changed + redact_event(tx, workspace_id, event_id, payload)

        await self._write(erasure, unit, sequence - 1)

    async def _items(self, erasure: Erasure, conversation_id: str, run_id: str) -> None:
        """What a run said in a conversation, and the copies of it in forks."""
        condition = "conversation_id = :conversation_id AND run_id = :run_id"
        for one in await self._family(erasure, conversation_id):
            params: Params = {"conversation_id": one, "run_id": run_id}
            await self._until_none(erasure, partial(_redact_items, erasure.workspace_id, condition, params))

    async def _conversation(self, erasure: Erasure) -> None:
        """What is left of the conversation when its events are gone."""
        workspace_id, conversation_id = erasure.workspace_id, erasure.subject_id
        after = ""
        while rows := await self._read(_RUNS, erasure, conversation_id=conversation_id, after=after, limit=_AT_ONCE):
            for (run_id,) in rows:
                await self._write(erasure, partial(_redact_run, workspace_id, run_id))
                await self._items(erasure, conversation_id, run_id)
            after = rows[-1][0]
        where: Params = {"conversation_id": conversation_id}
        everything = partial(_redact_items, workspace_id, "conversation_id = :conversation_id", where)
        await self._until_none(erasure, everything)
        await self._files.artifacts(erasure, "conversation_id = :conversation_id", where)
        await self._files.objects(erasure, conversation_id)
        key = joined(conversation_id, "")

        def unit(tx: Transaction) -> int:
            return (
                redact_deliveries(tx, workspace_id, conversation_id)
                + redact_contexts(tx, workspace_id, conversation_id)
                + drop_state(tx, workspace_id, Scope.CONVERSATION, key)
                + close_conversation(tx, workspace_id, conversation_id)
            )

        await self._write(erasure, unit)

    async def _user(self, erasure: Erasure) -> None:
        """What is kept of a person beside what they said."""
        workspace_id = erasure.workspace_id
        for surface, name in _accounts(erasure):
            params: Params = {"actor_id": name, "surface": surface}
            await self._until_none(erasure, partial(_redact_items, workspace_id, _SAID_BY, params))
            await self._files.objects(erasure, f"{surface}:{name}")
            begin, end = joined(surface, "").removesuffix("/") + "/", "/" + joined(name)

            def unit(tx: Transaction, begin: str = begin, end: str = end, name: str = name) -> int:
                return drop_state(tx, workspace_id, Scope.ACTOR, begin, end) + drop_state(
                    tx, workspace_id, Scope.SUBJECT, joined("user", name), joined("user", name)
                )

            await self._write(erasure, unit)

    async def _stop(self, erasure: Erasure, conversation_id: str) -> None:
        """Nothing of it runs, and nothing of it is still to be delivered."""
        which = RunFilter(conversation_id=conversation_id)
        await self._open_runs.end(erasure.workspace_id, which, "its data is being erased")
        for (delivery_id,) in await self._read(_PENDING, erasure, conversation_id=conversation_id):
            await outcome_of(self._outbox.discard(erasure.workspace_id, delivery_id), "discarding a delivery")

    async def _family(self, erasure: Erasure, conversation_id: str) -> Sequence[str]:
        """The conversation, and those that were forked from it: they hold copies."""
        found = [conversation_id] if conversation_id else []
        for one in found:
            found += [row[0] for row in await self._read(_FORKS, erasure, conversation_id=one) if row[0] not in found]
        return found

    async def _read(self, sql: str, erasure: Erasure, **more: str | int) -> list[Row]:
        params: Params = {"workspace_id": erasure.workspace_id, **more}
        return await self._database.reader.run(lambda tx: tx.all(sql, params))

    async def _write(self, erasure: Erasure, work: Callable[[Transaction], int], position: int = -1) -> int:
        return await write(self._database, erasure, work, position)

    async def _until_none(self, erasure: Erasure, work: Callable[[Transaction], int]) -> None:
        while await self._write(erasure, work):
            pass


async def write(database: Database, erasure: Erasure, work: Callable[[Transaction], int], position: int = -1) -> int:
    """One unit of an erasure, counted in it; answers how many rows changed."""

    def unit(tx: Transaction) -> int:
        changed = work(tx)
        if changed or position >= 0:
            advance_erasure(tx, erasure, position, changed)
        return changed

    return await database.writer.run(unit)


def _is_meant(erasure: Erasure, actor_id: str, conversation_id: str, payload: bytes) -> bool:
    if erasure.kind is ErasureKind.CONVERSATION:
        return conversation_id == erasure.subject_id
    surfaces = [surface for surface, name in _accounts(erasure) if name == actor_id]
    return bool(surfaces) and surface_of(payload) in surfaces


def _accounts(erasure: Erasure) -> list[tuple[str, str]]:
    """(surface, id) of each account of the user."""
    pairs = [line.partition(":") for line in erasure.actor_ids.splitlines()]
    return [(surface, name) for surface, _, name in pairs]


def _redact_run(workspace_id: str, run_id: str, tx: Transaction) -> int:
    return redact_run(tx, workspace_id, run_id)


def _redact_items(workspace_id: str, condition: str, params: Params, tx: Transaction) -> int:
    return redact_items(tx, workspace_id, items_of(tx, workspace_id, condition, params, _AT_ONCE))
