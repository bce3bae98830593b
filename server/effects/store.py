"""Where effects are kept."""

from typing import Protocol

from portway.rpc.errors import Conflict, NotFound, Reason, WrongState
from portway.server.effects.types import Effect, EffectState, Idempotency, NewEffect
from portway.server.runs.attempts import check_fence
from portway.server.runs.types import Fence
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, typed, values
from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue, Transaction

_COLUMNS = columns(Effect)
_BY_CALL = f"""
SELECT {_COLUMNS} FROM effects WHERE workspace_id = :workspace_id AND run_id = :run_id AND call_id = :call_id
"""
_OF_RUN = f"""
SELECT {_COLUMNS} FROM effects WHERE workspace_id = :workspace_id AND run_id = :run_id
ORDER BY create_time, effect_id LIMIT :limit
"""
_OPEN = f"""
SELECT {_COLUMNS} FROM effects WHERE workspace_id = :workspace_id AND run_id = :run_id AND state = 'planned'
ORDER BY create_time, effect_id
"""
_FINISH = """
UPDATE effects SET state = :state, result = :result, end_time = :now
WHERE workspace_id = :workspace_id AND effect_id = :effect_id AND state = 'planned'
"""
_GIVE_UP = """
UPDATE effects SET state = 'unknown', end_time = :now
WHERE workspace_id = :workspace_id AND run_id = :run_id AND state = 'planned'
"""


class Effects(Protocol):
    """What can be asked about effects."""

    async def of_run(self, workspace_id: str, run_id: str, limit: int) -> list[Effect]:
        """Oldest first."""

    async def unfinished(self, workspace_id: str, run_id: str) -> list[Effect]:
        """Those that may or may not have happened: what recovery has to reconcile."""


def plan_effect(tx: Transaction, fence: Fence, effect: NewEffect) -> Effect | None:
    """Write down that the call is about to be made; nothing means: make it.

    An effect that an earlier attempt left under the same call id is answered instead, and the caller decides by its
    state. Raises Conflict when that call was another one; Stale or WrongState when the fence is lost.
    """
    check_fence(tx, fence)
    row = tx.one(_BY_CALL, {"workspace_id": fence.workspace_id, "run_id": fence.run_id, "call_id": effect.call_id})
    if row is not None:
        earlier = _effect(row)
        if earlier.digest != effect.digest:
            raise Conflict(
                f"The call id {effect.call_id!r} of run {fence.run_id} stands for another call.",
                reason=Reason.SAME_KEY_OTHER_BODY,
            )
        return earlier
    row_values = values(
        effect,
        workspace_id=fence.workspace_id,
        run_id=fence.run_id,
        attempt=fence.attempt,
        state=EffectState.PLANNED,
        result=b"",
        create_time=tx.now,
        end_time=0,
    )
    tx.insert_many("effects", [row_values])
    return None


def finish_effect(tx: Transaction, workspace_id: str, effect_id: str, state: EffectState, result: bytes = b"") -> None:
    """Write down how it ended.

    Needs no fence: what happened happened, whoever is told. Raises NotFound; WrongState twice.
    """
    params: dict[str, SqlValue] = {
        "workspace_id": workspace_id,
        "effect_id": effect_id,
        "state": state,
        "result": result,
        "now": tx.now,
    }
    if tx.execute(_FINISH, params):
        return
    if tx.one("SELECT 1 FROM effects WHERE workspace_id = :workspace_id AND effect_id = :effect_id", params) is None:
        raise NotFound.of("effect", effect_id)
    raise WrongState(f"The effect {effect_id} has its end already.")


def give_up_effects(tx: Transaction, workspace_id: str, run_id: str) -> int:
    """The run has ended: what nobody knows by now, nobody will. Answers how many."""
    return tx.execute(_GIVE_UP, {"workspace_id": workspace_id, "run_id": run_id, "now": tx.now})


def read_unfinished(tx: ReadTransaction, workspace_id: str, run_id: str) -> list[Effect]:
    """Those that may or may not have happened."""
    return [_effect(row) for row in tx.all(_OPEN, {"workspace_id": workspace_id, "run_id": run_id})]


def _effect(row: Row) -> Effect:
    return Effect(*typed(row, (6, Idempotency), (8, EffectState)))


class StoredEffects:
    """Effects in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def of_run(self, workspace_id: str, run_id: str, limit: int) -> list[Effect]:
        params: dict[str, SqlValue] = {"workspace_id": workspace_id, "run_id": run_id, "limit": limit}
        return [_effect(row) for row in await self._reader.look(lambda tx: tx.all(_OF_RUN, params))]

    async def unfinished(self, workspace_id: str, run_id: str) -> list[Effect]:
        return await self._reader.look(lambda tx: read_unfinished(tx, workspace_id, run_id))
