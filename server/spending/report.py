"""What was spent, beside what may be."""

from dataclasses import dataclass
from typing import Protocol

from portway.rpc.errors import InvalidInput, NotFound
from portway.server.agents.store import Agents
from portway.server.agents.types import AgentSpec, Budget
from portway.server.conversations.store import Conversations
from portway.server.runs.store import Ledgers, Runs
from portway.server.spending.months import Month, month_of
from portway.server.spending.store import SpendingStore
from portway.server.spending.types import Group, Level, Share, Spent, Subject
from portway.server.storage_engine.documents import from_json
from portway.v1 import run_snapshot_pb2


class Budgets(Protocol):
    """The clock and the workspaces of budgets."""

    def now(self) -> int:
        """Microseconds since 1970."""

    def workspace_budget(self, workspace_id: str) -> Budget:
        """Without limits where it has none."""


class RunRecords(Runs, Ledgers, Protocol):
    """Runs, and what was frozen with them."""


@dataclass(frozen=True, slots=True)
class Statement:
    """`month` is missing for a run."""

    spent: Spent
    budget: Budget
    month: Month | None


class SpendingReport:
    """Sums from the database: what attempts under way have not written yet is not in them."""

    def __init__(
        self,
        spending: SpendingStore,
        agents: Agents,
        conversations: Conversations,
        runs: RunRecords,
        budgets: Budgets,
    ) -> None:
        self._spending = spending
        self._agents = agents
        self._conversations = conversations
        self._runs = runs
        self._budgets = budgets

    async def statement(self, workspace_id: str, level: Level, subject_id: str, month: str) -> Statement:
        """Raises NotFound, InvalidInput. A conversation shows no budget: each of its agents has one for it."""
        if level is Level.RUN:
            if month:
                raise InvalidInput.field("month", "a run has its own life, not a month; leave it out")
            budget = await self._run_budget(workspace_id, subject_id)
            return Statement(await self._spending.spent(Subject(level, workspace_id, subject_id, 0)), budget, None)
        found = month_of(month, self._budgets.now())
        budget = await self._budget(workspace_id, level, subject_id)
        spent = await self._spending.spent(Subject(level, workspace_id, subject_id, found.number))
        return Statement(spent, budget, found)

    async def shares(
        self, workspace_id: str, group: Group, month: str, within: tuple[str, str], after: str | None, limit: int
    ) -> list[Share]:
        """Raises InvalidInput."""
        found = month_of(month, self._budgets.now())
        return await self._spending.shares(workspace_id, group, found.number, within, after, limit)

    async def _budget(self, workspace_id: str, level: Level, subject_id: str) -> Budget:
        if level is Level.AGENT:
            return (await self._agents.agent(workspace_id, subject_id)).spec.budget
        if level is Level.CONVERSATION:
            await self._conversations.conversation(workspace_id, subject_id)
            return Budget()
        return self._budgets.workspace_budget(workspace_id)

    async def _run_budget(self, workspace_id: str, run_id: str) -> Budget:
        await self._runs.run(workspace_id, run_id)
        try:
            kept, _ = await self._runs.snapshot(workspace_id, run_id)
        except NotFound:
            # It has not begun.
            return Budget()
        spec_json = run_snapshot_pb2.RunSnapshot.FromString(kept).agent_spec_json
        # What was erased of it is gone with its budget.
        return from_json(AgentSpec, spec_json).run_budget if spec_json else Budget()
