"""Walking a table from its oldest rows on, a page at a time, by an index that it has anyway."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from portway.server.retention.types import Position, Step, Stepped
from portway.server.storage_engine.transaction import Params, Transaction


@dataclass(frozen=True, slots=True)
class Walk:
    """A table whose rows are looked at in the order of their age.

    `order` grows with time and `id` tells equals apart: an index begins with workspace and both. `time` is when a row
    came; `removable` a condition with `:cutoff` and `:now`, and `more` has its other parameters. `deletes` take
    `:workspace_id` and `:id` of a row that goes; those of `large` go first, piece by piece, because one row may have
    thousands of them.
    """

    table: str
    order: str
    id: str
    time: str
    removable: str
    deletes: Sequence[str]
    large: Sequence[str] = ()
    more: Params = field(default_factory=dict)

    def step(self, tx: Transaction, step: Step) -> Stepped:
        """One unit."""
        rows = tx.all(self._scan, {**self._params(tx, step), "limit": step.limit})
        removed, position = 0, step.position
        kept: Position | None = None
        for number, key, goes in rows:
            if goes and not step.dry:
                more = self._remove(tx, step, key, step.limit - removed)
                removed += more
                if removed >= step.limit:
                    # Maybe more of this row is left: the next unit begins with it again.
                    return Stepped(removed, position, kept, done=False)
            elif goes:
                removed += 1
            elif kept is None:
                kept = (number, key)
            position = (number, key)
        return Stepped(removed, position, kept, done=len(rows) < step.limit)

    def _remove(self, tx: Transaction, step: Step, key: str, budget: int) -> int:
        params: Params = {"workspace_id": step.workspace_id, "id": key}
        removed = 0
        for sql in self.large:
            removed += tx.execute(sql, {**params, "budget": budget - removed})
            if removed >= budget:
                return removed
        return removed + sum(tx.execute(sql, params) for sql in self.deletes)

    def _params(self, tx: Transaction, step: Step) -> Params:
        return {
            "workspace_id": step.workspace_id,
            "number": step.position[0],
            "id": step.position[1],
            "cutoff": step.cutoff,
            "now": tx.now,
            **self.more,
        }

    @property
    def _scan(self) -> str:
        return (
            f"SELECT {self.order}, {self.id}, CASE WHEN {self.removable} THEN 1 ELSE 0 END FROM {self.table} AS t "
            f"WHERE workspace_id = :workspace_id AND ({self.order}, {self.id}) > (:number, :id) "
            f"AND {self.time} <= :cutoff ORDER BY {self.order}, {self.id} LIMIT :limit"
        )
