"""The accounts of this host: kept in memory, read from the database where a limit asks for it, told to operators.

What the database says is read by the writer's own thread: everything that was handed to it before is in the sum, and
nothing after it. So what attempts here have not handed over yet can be added exactly.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

import structlog

from portway.rpc.metrics.families import Counts
from portway.server.agents.types import Agent, AgentSpec, Budget
from portway.server.audit.types import NewAuditRecord
from portway.server.spending.account import Account
from portway.server.spending.meter import Meter
from portway.server.spending.months import Month, month_at
from portway.server.spending.store import read_spent
from portway.server.spending.types import NOTHING, Level, Limit, Payer, Spent, Subject, is_limited, told
from portway.server.storage_engine.clock import now
from portway.server.storage_engine.writer import Writer

IN_MEMORY = 50_000
# Other hosts spend too: what they wrote is read again when a run begins, at most so often.
FRESH_SECONDS = 30.0


class Audit(Protocol):
    """Where decisions are written down."""

    def record(self, record: NewAuditRecord) -> None:
        """Queue a record. Never blocks and never raises."""


class WorkspaceBudgets(Protocol):
    """The budgets of workspaces, in memory."""

    def budget_of(self, workspace_id: str) -> Budget:
        """A budget without limits where the workspace has none."""


class SpendingAccounts:
    """Every account that is in use, and the most recent others."""

    def __init__(self, writer: Writer, budgets: WorkspaceBudgets, audit: Audit, clock: Callable[[], int] = now) -> None:
        self._writer = writer
        self._budgets = budgets
        self._audit = audit
        self._clock = clock
        self._accounts: OrderedDict[Subject, Account] = OrderedDict()
        self._meters: dict[Subject, set[Meter]] = {}
        self._month = month_at(clock())
        self._policies: dict[Meter, dict[Level, Budget]] = {}
        self._refusals: set[tuple[Subject, str]] = set()
        self.notices = Counts()
        self._log = structlog.get_logger("portway.host.spending")

    def now(self) -> int:
        return self._clock()

    def month(self) -> Month:
        """The one that budgets are counted in now."""
        moment = self._clock()
        if not self._month.start <= moment < self._month.end:
            self._month = month_at(moment)
            self._refusals.clear()
        return self._month

    async def open(self, payer: Payer, run_budget: Budget, agent: AgentSpec) -> Meter:
        """The meter of a new attempt. Raises LimitExceeded (BUDGET_EXHAUSTED) where a budget is spent already."""
        workspace = self._budgets.budget_of(payer.workspace_id)
        meter = Meter(payer, self)
        self._policies[meter] = {
            Level.RUN: run_budget,
            Level.CONVERSATION: agent.conversation_budget,
            Level.AGENT: agent.budget,
            Level.WORKSPACE: workspace,
        }
        try:
            await meter.open()
        except BaseException:
            meter.leave()
            raise
        return meter

    def of(self, meter: Meter) -> tuple[Account, ...]:
        budgets, payer, month = self._policies[meter], meter.payer, self.month()
        found = []
        for key in _subjects(payer, month.number):
            account = self._account(key, month)
            account.budget = budgets[key.level]
            self._meters.setdefault(key, set()).add(meter)
            found.append(account)
        self._forget_some()
        return tuple(found)

    async def load(self, accounts: Sequence[Account]) -> None:
        for account in accounts:
            if is_limited(account.budget):
                await self._load(account)

    def leave(self, meter: Meter) -> None:
        self._policies.pop(meter, None)
        for key in [key for key, meters in self._meters.items() if meter in meters]:
            meters = self._meters[key]
            meters.discard(meter)
            if not meters:
                del self._meters[key]

    def refused(self, meter: Meter, account: Account, limit: Limit) -> None:
        payer = meter.payer
        self._tell(account, limit, payer.run_id)

    def workspace_budget(self, workspace_id: str) -> Budget:
        return self._budgets.budget_of(workspace_id)

    async def refusal(self, agent: Agent, conversation_id: str) -> str:
        """Why a new event may not start a run; '' where it may. Answers from memory unless something is read anew."""
        spec, workspace_id = agent.spec, agent.workspace_id
        budgets = {
            Level.WORKSPACE: self._budgets.budget_of(workspace_id),
            Level.AGENT: spec.budget,
            Level.CONVERSATION: spec.conversation_budget,
        }
        if not any(is_limited(budget) for budget in budgets.values()):
            return ""
        month = self.month()
        payer = Payer(
            workspace_id=workspace_id,
            agent_id=agent.agent_id,
            conversation_id=conversation_id,
            run_id="",
            attempt=0,
        )
        for key in _subjects(payer, month.number)[1:]:
            budget = budgets[key.level]
            if not is_limited(budget) or not key.subject_id:
                continue
            account = self._account(key, month)
            account.budget = budget
            await self._load(account)
            limit = account.spent()
            if limit is not None:
                self._tell(account, limit, "")
                return f"the budget of {account.whose} is spent: {told(limit)}; a new one begins on {month.next_day}"
        return ""

    def _account(self, key: Subject, month: Month) -> Account:
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(key, month, self._warn)
        else:
            self._accounts.move_to_end(key)
        return account

    def _forget_some(self) -> None:
        """The oldest that nobody uses. What they know is in the database."""
        surplus = len(self._accounts) - IN_MEMORY
        if surplus <= 0:
            return
        for key in [key for key in self._accounts if key not in self._meters][:surplus]:
            del self._accounts[key]

    async def _load(self, account: Account) -> None:
        fresh = account.loaded is not None and (
            account.key.level is Level.RUN or monotonic() - account.loaded < FRESH_SECONDS
        )
        if fresh:
            return
        if account.loading is None:
            account.loading = self._read(account)
        await asyncio.shield(account.loading)

    def _read(self, account: Account) -> "asyncio.Future[Spent]":
        unwritten = sum((meter.unwritten(account.key.month) for meter in self._meters.get(account.key, ())), NOTHING)
        account.since_asked = NOTHING
        done = self._writer.submit(lambda tx: read_spent(tx, account.key))

        def take(future: "asyncio.Future[Spent]") -> None:
            account.loading = None
            if not future.cancelled() and future.exception() is None:
                account.take_over(future.result().amounts + unwritten + account.since_asked, monotonic())

        # Added before anybody waits for it, so it is called before they go on.
        done.add_done_callback(take)
        return done

    def _warn(self, account: Account, limit: Limit) -> None:
        self.notices.add(account.key.level, "nearly spent")
        self._log.warning("a budget is nearly spent", whose=account.whose, dimension=limit.name, used=told(limit))
        self._record(account, "budget.warning", told(limit), allowed=True)

    def _tell(self, account: Account, limit: Limit, run_id: str) -> None:
        """Once per account and dimension: what is refused after it is told by its own record."""
        if (account.key, limit.name) in self._refusals:
            return
        self._refusals.add((account.key, limit.name))
        self.notices.add(account.key.level, "spent")
        self._log.warning("a budget is spent", whose=account.whose, dimension=limit.name, used=told(limit))
        self._record(account, "budget.exhausted", told(limit), allowed=False, run_id=run_id)

    def _record(self, account: Account, action: str, reason: str, *, allowed: bool, run_id: str = "") -> None:
        key = account.key
        self._audit.record(
            NewAuditRecord(
                workspace_id=key.workspace_id,
                action=action,
                resource=f"{key.level} {key.subject_id}",
                allowed=allowed,
                reason=reason,
                role="host",
                run_id=run_id or (key.subject_id if key.level is Level.RUN else ""),
                scope=account.month.name,
            )
        )


def _subjects(payer: Payer, month: int) -> list[Subject]:
    """Who pays: the run's own budget first."""
    workspace_id = payer.workspace_id
    return [
        Subject(Level.RUN, workspace_id, payer.run_id, 0),
        Subject(Level.CONVERSATION, workspace_id, payer.conversation_id, month, payer.agent_id),
        Subject(Level.AGENT, workspace_id, payer.agent_id, month),
        Subject(Level.WORKSPACE, workspace_id, workspace_id, month),
    ]
