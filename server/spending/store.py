"""Where spending is kept."""

from collections.abc import Sequence
from typing import Protocol

from portway.server.spending.months import day_name
from portway.server.spending.types import AMOUNTS, Amounts, Group, Level, Share, SpendingRow, Spent, Subject
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.transaction import ReadTransaction, Row, SqlValue, Transaction

_KEYS = ("workspace_id", "run_id", "attempt", "day", "model_id")
_OTHERS = ("agent_id", "conversation_id", "currency")
_COLUMNS = (*_KEYS, *_OTHERS, *AMOUNTS)
_WRITE = f"""
INSERT INTO spending ({", ".join(_COLUMNS)}, update_time)
VALUES ({", ".join(f":{name}" for name in _COLUMNS)}, :now)
ON CONFLICT ({", ".join(_KEYS)}) DO UPDATE SET currency = excluded.currency, update_time = excluded.update_time,
  {", ".join(f"{name} = excluded.{name}" for name in AMOUNTS)}
"""
_SUMS = f"{', '.join(f'COALESCE(SUM({name}), 0)' for name in AMOUNTS)}, COALESCE(MAX(currency), '')"
_OF_RUN = f"SELECT {_SUMS} FROM spending WHERE workspace_id = :workspace_id AND run_id = :subject_id"
_MONTH = "workspace_id = :workspace_id AND day BETWEEN :first_day AND :last_day"
_OF_MONTH = f"SELECT {_SUMS} FROM spending WHERE {_MONTH}"
_AND = {
    Level.WORKSPACE: "",
    Level.AGENT: " AND agent_id = :subject_id",
    Level.CONVERSATION: " AND conversation_id = :subject_id",
}


class SpendingStore(Protocol):
    """What can be asked about spending."""

    async def spent(self, subject: Subject) -> Spent:
        """What a workspace, agent or conversation spent in a month, or a run in its life."""

    async def shares(
        self, workspace_id: str, group: Group, month: int, within: tuple[str, str], after: str | None, limit: int
    ) -> list[Share]:
        """Parts of a month by name, after the name `after` (nothing to begin: a name may be empty).

        `within` is (agent_id, conversation_id), each '' for any.
        """


def record_spending(tx: Transaction, rows: Sequence[SpendingRow]) -> None:
    """Write the whole of what an attempt used; one statement."""
    tx.executemany(_WRITE, [_params(row, tx.now) for row in rows])


def read_spent(tx: ReadTransaction, subject: Subject) -> Spent:
    """The sum; nothing where there is none."""
    params: dict[str, SqlValue] = {
        "workspace_id": subject.workspace_id,
        "subject_id": subject.subject_id,
        "agent_id": subject.agent_id,
        **_days(subject.month),
    }
    sql = _OF_RUN
    if subject.level is not Level.RUN:
        sql = _OF_MONTH + _AND[subject.level] + (" AND agent_id = :agent_id" if subject.agent_id else "")
    row = tx.one(sql, params)
    return _spent(row) if row else Spent()


def _days(month: int) -> dict[str, SqlValue]:
    return {"first_day": month * 100, "last_day": month * 100 + 99}


def _params(row: SpendingRow, now: int) -> dict[str, SqlValue]:
    params: dict[str, SqlValue] = {name: getattr(row, name) for name in (*_KEYS, *_OTHERS)}
    params.update({name: getattr(row.amounts, name) for name in AMOUNTS})
    params["now"] = now
    return params


def _spent(row: Row) -> Spent:
    # PostgreSQL sums to a decimal.
    return Spent(Amounts(*(int(value) for value in row[: len(AMOUNTS)])), row[len(AMOUNTS)])


class StoredSpending:
    """Spending in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def spent(self, subject: Subject) -> Spent:
        return await self._reader.run(lambda tx: read_spent(tx, subject))

    async def shares(
        self, workspace_id: str, group: Group, month: int, within: tuple[str, str], after: str | None, limit: int
    ) -> list[Share]:
        agent_id, conversation_id = within
        column = group.value
        conditions = [_MONTH]
        params: dict[str, SqlValue] = {
            "workspace_id": workspace_id,
            **_days(month),
            "agent_id": agent_id,
            "conversation_id": conversation_id,
            "limit": limit,
        }
        if agent_id:
            conditions.append("agent_id = :agent_id")
        if conversation_id:
            conditions.append("conversation_id = :conversation_id")
        if after is not None:
            conditions.append(f"{column} > :after")
            params["after"] = int(after.replace("-", "")) if group is Group.DAY else after
        sql = (
            f"SELECT {column}, {_SUMS} FROM spending WHERE {' AND '.join(conditions)} "
            f"GROUP BY {column} ORDER BY {column} LIMIT :limit"
        )
        rows = await self._reader.run(lambda tx: tx.all(sql, params))
        return [Share(day_name(row[0]) if group is Group.DAY else row[0], _spent(row[1:])) for row in rows]
