"""Where questions are kept."""

from typing import Protocol

from portway.rpc.errors import NotFound
from portway.server.interactions.types import Interaction, InteractionFilter, InteractionState, NewInteraction
from portway.server.runs.types import Fence
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, typed, values
from portway.server.storage_engine.transaction import Params, ReadTransaction, Row, Transaction

_COLUMNS = columns(Interaction)
_KEY = "workspace_id = :workspace_id AND run_id = :run_id AND interaction_id = :interaction_id"
_BY_KEY = f"SELECT {_COLUMNS} FROM interactions WHERE {_KEY}"
_OF_RUN = f"SELECT {_COLUMNS} FROM interactions WHERE workspace_id = :workspace_id AND run_id = :run_id"
_ANSWER = f"""
UPDATE interactions SET state = 'answered', answer = :answer, request_id = :request_id,
  answer_event_id = :answer_event_id, answer_run_id = :answer_run_id, end_time = :now
WHERE {_KEY} AND state = 'open' AND expire_time > :now RETURNING {_COLUMNS}
"""
_WITHDRAW = f"""
UPDATE interactions SET state = 'withdrawn', end_time = :now
WHERE workspace_id = :workspace_id AND run_id = :run_id AND state = 'open' RETURNING {_COLUMNS}
"""
_DUE = "SELECT MIN(expire_time) FROM interactions WHERE state = 'open'"
_TOO_OLD = """
SELECT workspace_id, run_id, interaction_id FROM interactions
WHERE state = 'open' AND expire_time <= :now ORDER BY expire_time LIMIT :limit
"""
_EXPIRE = f"""
UPDATE interactions SET state = 'expired', end_time = :now
WHERE {_KEY} AND state = 'open' AND expire_time <= :now RETURNING {_COLUMNS}
"""
_PAGE = f"""
SELECT {_COLUMNS} FROM interactions
WHERE workspace_id = :workspace_id AND (create_time, run_id) < (:create_time, :after_run)
  AND (:run_id = '' OR run_id = :run_id) AND (:conversation_id = '' OR conversation_id = :conversation_id)
  AND (:open_only = 0 OR state = 'open')
ORDER BY create_time DESC, run_id DESC LIMIT :limit
"""

FIRST_PAGE = (2**62, "")


class Interactions(Protocol):
    """What can be asked about questions."""

    async def interaction(self, workspace_id: str, run_id: str, interaction_id: str) -> Interaction:
        """Raises NotFound."""

    async def of_run(self, workspace_id: str, run_id: str) -> list[Interaction]:
        """A run asks once; a run that asked nothing has none."""

    async def page(
        self, workspace_id: str, which: InteractionFilter, after: tuple[int, str], limit: int
    ) -> list[Interaction]:
        """Newest first, after (create_time, run_id) (FIRST_PAGE to begin)."""

    async def due(self) -> int:
        """When the next open one expires, in microseconds; 0 where none is open."""


def add_interaction(tx: Transaction, fence: Fence, interaction: NewInteraction) -> None:
    """Ask. The caller has checked the fence in the same unit."""
    row = values(
        interaction,
        workspace_id=fence.workspace_id,
        run_id=fence.run_id,
        state=InteractionState.OPEN,
        answer=b"",
        create_time=tx.now,
    )
    tx.insert_many("interactions", [row])


def answer_interaction(
    tx: Transaction, asked: Interaction, *, answer: bytes, request_id: str, event_id: str, run_id: str
) -> Interaction | None:
    """Answer it, once; nothing where it is not open any more or its time is over."""
    params = {**_key(asked), "answer": answer, "request_id": request_id, "now": tx.now}
    row = tx.one(_ANSWER, {**params, "answer_event_id": event_id, "answer_run_id": run_id})
    return _interaction(row) if row is not None else None


def withdraw_interactions(tx: Transaction, workspace_id: str, run_id: str) -> list[Interaction]:
    """The run was cancelled: nobody needs to answer. Answers what was open."""
    params: Params = {"workspace_id": workspace_id, "run_id": run_id, "now": tx.now}
    return [_interaction(row) for row in tx.all(_WITHDRAW, params)]


def expire_interactions(tx: Transaction, limit: int) -> list[Interaction]:
    """Close those whose time is over; answers them."""
    found = tx.all(_TOO_OLD, {"now": tx.now, "limit": limit})
    closed: list[Interaction] = []
    for workspace_id, run_id, interaction_id in found:
        params: Params = {"workspace_id": workspace_id, "run_id": run_id, "interaction_id": interaction_id}
        row = tx.one(_EXPIRE, {**params, "now": tx.now})
        if row is not None:
            closed.append(_interaction(row))
    return closed


def read_interaction(tx: ReadTransaction, workspace_id: str, run_id: str, interaction_id: str) -> Interaction:
    """Raises NotFound."""
    params: Params = {"workspace_id": workspace_id, "run_id": run_id, "interaction_id": interaction_id}
    row = tx.one(_BY_KEY, params)
    if row is None:
        raise NotFound.of("interaction", interaction_id)
    return _interaction(row)


def _key(interaction: Interaction) -> Params:
    return {
        "workspace_id": interaction.workspace_id,
        "run_id": interaction.run_id,
        "interaction_id": interaction.interaction_id,
    }


def _interaction(row: Row) -> Interaction:
    return Interaction(*typed(row, (11, InteractionState)))


class StoredInteractions:
    """Questions in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def interaction(self, workspace_id: str, run_id: str, interaction_id: str) -> Interaction:
        return await self._reader.look(lambda tx: read_interaction(tx, workspace_id, run_id, interaction_id))

    async def of_run(self, workspace_id: str, run_id: str) -> list[Interaction]:
        params: Params = {"workspace_id": workspace_id, "run_id": run_id}
        return [_interaction(row) for row in await self._reader.look(lambda tx: tx.all(_OF_RUN, params))]

    async def page(
        self, workspace_id: str, which: InteractionFilter, after: tuple[int, str], limit: int
    ) -> list[Interaction]:
        params: Params = {
            "workspace_id": workspace_id,
            "run_id": which.run_id,
            "conversation_id": which.conversation_id,
            "open_only": int(which.open_only),
            "create_time": after[0],
            "after_run": after[1],
            "limit": limit,
        }
        return [_interaction(row) for row in await self._reader.run(lambda tx: tx.all(_PAGE, params))]

    async def due(self) -> int:
        row = await self._reader.run(lambda tx: tx.one(_DUE, {}))
        return int(row[0] or 0) if row else 0
