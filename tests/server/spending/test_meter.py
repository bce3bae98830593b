"""The meter by itself: whatever is asked in whatever order, nothing is lost, doubled or overshot."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portway.rpc.errors import LimitExceeded
from portway.server.agents.types import AgentSpec, Budget
from portway.server.audit.types import NewAuditRecord
from portway.server.spending.ledger import SpendingAccounts
from portway.server.spending.meter import Meter
from portway.server.spending.store import StoredSpending
from portway.server.spending.types import Amounts, Level, Payer, Subject, limits_of
from portway.server.storage_engine.database import Database, DatabaseOptions, open_database
from portway.server.storage_engine.transaction import Transaction

DAY = 86_400_000_000
# The middle of a month.
START = 1_790_000_000_000_000 // DAY * DAY


Step = tuple[int, Amounts, Amounts, bool]


class Workspaces:
    """One budget for all of them."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def budget_of(self, workspace_id: str) -> Budget:
        return self.budget


class Audit:
    def __init__(self) -> None:
        self.records: list[NewAuditRecord] = []

    def record(self, record: NewAuditRecord) -> None:
        self.records.append(record)


class Journal:
    """A journal without a run: units go to the writer as they come."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._works: list[object] = []
        self._last: asyncio.Future[None] | None = None

    def also(self, work: object) -> None:
        self._works.append(work)

    def flush(self) -> None:
        works, self._works = self._works, []

        def unit(tx: Transaction) -> None:
            for work in works:
                work(tx)  # type: ignore[operator]  # each is a unit

        self._last = self._database.writer.submit(unit)

    async def settled(self) -> None:
        if self._last is not None:
            await self._last


@asynccontextmanager
async def a_database(folder: Path) -> AsyncIterator[Database]:
    async with open_database(DatabaseOptions(url=f"sqlite:///{folder / 'portway.db'}")) as database:
        yield database


def a_payer(run: int, attempt: int = 1) -> Payer:
    return Payer(workspace_id="w", agent_id="a", conversation_id="c", run_id=f"r{run}", attempt=attempt)


limit = st.none() | st.integers(min_value=1, max_value=40)
budgets = st.builds(Budget, cost_micros=limit, tokens=limit, calls=limit, bytes=limit)
amounts = st.builds(
    Amounts,
    cost_micros=st.integers(0, 9),
    input_tokens=st.integers(0, 9),
    output_tokens=st.integers(0, 9),
    calls=st.integers(0, 2),
    bytes=st.integers(0, 9),
)
specs = st.builds(
    lambda agent, chat: AgentSpec(name="a", runner_id="r", budget=agent, conversation_budget=chat), budgets, budgets
)
# Which run asks, what it holds, what it used in the end, and whether the day changes before.
steps = st.lists(st.tuples(st.integers(0, 2), amounts, amounts, st.booleans()), max_size=25)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spec=st.builds(lambda a, c: AgentSpec(name="a", runner_id="r", budget=a, conversation_budget=c), budgets, budgets),
    workspace=budgets,
    run_budget=budgets,
    steps=steps,
)
def test_what_is_charged_is_what_is_kept_and_no_budget_is_overshot_by_more_than_the_calls_under_way(
    tmp_path_factory: pytest.TempPathFactory,
    spec: AgentSpec,
    workspace: Budget,
    run_budget: Budget,
    steps: list[Step],
) -> None:
    folder = tmp_path_factory.mktemp("spending")
    asyncio.run(_played(folder, spec, workspace, run_budget, steps))


async def _played(folder: Path, spec: AgentSpec, workspace: Budget, run_budget: Budget, steps: list[Step]) -> None:
    moment = START
    async with a_database(folder) as database:
        accounts = SpendingAccounts(database.writer, Workspaces(workspace), Audit(), lambda: moment)
        meters: dict[int, Meter] = {}
        total = Amounts()
        largest = Amounts(calls=0)
        for run, wanted, used, next_day in steps:
            moment += DAY if next_day and moment < START + 5 * DAY else 0
            # Calls and bytes are what they are said to be before.
            used = Amounts(used.cost_micros, used.input_tokens, used.output_tokens, wanted.calls, wanted.bytes)
            try:
                if run not in meters:
                    meters[run] = await accounts.open(a_payer(run), run_budget, spec)
                    meters[run].start(Journal(database))
                hold = await meters[run].hold(wanted, model_id="m" if wanted.calls else "")
            except LimitExceeded:
                continue
            hold.settle(used)
            hold.settle(used)
            total = total + used
            largest = Amounts(*(max(getattr(largest, n), getattr(used, n)) for n in Amounts.__slots__))
        for meter in meters.values():
            work = meter.close()
            if work is not None:
                await database.writer.run(work)
        await _compared(database, spec, workspace, total, largest)


async def _compared(database: Database, spec: AgentSpec, workspace: Budget, total: Amounts, largest: Amounts) -> None:
    store = StoredSpending(database.reader)
    kept = (await store.spent(Subject(Level.WORKSPACE, "w", "w", 202609))).amounts
    without_time = Amounts(kept.cost_micros, kept.input_tokens, kept.output_tokens, kept.calls, kept.bytes)
    assert without_time == total
    for budget in (workspace, spec.budget, spec.conversation_budget):
        for one, most in zip(limits_of(budget, total, Amounts()), limits_of(budget, largest, Amounts()), strict=True):
            beyond = 0 if one.name in ("calls", "bytes") else max(0, most.used - 1)
            assert one.used <= one.limit + beyond, one.name


async def test_writing_an_attempt_again_replaces_it(tmp_path: Path) -> None:
    async with a_database(tmp_path) as database:
        accounts = SpendingAccounts(database.writer, Workspaces(Budget(calls=10)), Audit(), lambda: START)
        journal = Journal(database)
        meter = await accounts.open(a_payer(1), Budget(), AgentSpec(name="a", runner_id="r"))
        meter.start(journal)
        hold = await meter.hold(Amounts(calls=1, input_tokens=7), model_id="m")
        # The host dies here: what is on disk is what was held.
        store = StoredSpending(database.reader)
        subject = Subject(Level.WORKSPACE, "w", "w", 202609)
        assert (await store.spent(subject)).amounts.tokens == 7
        hold.settle(Amounts(calls=1, input_tokens=5, output_tokens=30), model_id="other")
        await journal.settled()
        found = (await store.spent(subject)).amounts
        assert (found.calls, found.tokens) == (1, 35)


async def test_accounts_of_another_host_are_read_with_what_this_one_has_not_written(tmp_path: Path) -> None:
    async with a_database(tmp_path) as database:
        budget = Workspaces(Budget())
        accounts = SpendingAccounts(database.writer, budget, Audit(), lambda: START)
        spec = AgentSpec(name="a", runner_id="r")
        first = await accounts.open(a_payer(1), Budget(), spec)
        first.start(Journal(database))
        (await first.hold(Amounts(calls=1))).settle(Amounts(calls=1))
        other = SpendingAccounts(database.writer, budget, Audit(), lambda: START)
        second = await other.open(a_payer(2), Budget(), spec)
        second.start(Journal(database))
        (await second.hold(Amounts(calls=2))).settle(Amounts(calls=2))
        work = second.close()
        assert work is not None
        await database.writer.run(work)
        budget.budget = Budget(calls=3)
        third = await _refused(accounts, spec)
        assert "3 of 3 calls" in third


async def _refused(accounts: SpendingAccounts, spec: AgentSpec) -> str:
    try:
        await accounts.open(a_payer(3), Budget(), spec)
    except LimitExceeded as error:
        return error.message
    raise AssertionError("the budget is spent, and the run began")


async def test_time_that_a_run_waits_for_a_person_does_not_count(tmp_path: Path) -> None:
    async with a_database(tmp_path) as database:
        accounts = SpendingAccounts(database.writer, Workspaces(Budget()), Audit(), lambda: START)
        meter = await accounts.open(a_payer(1), Budget(seconds=60), AgentSpec(name="a", runner_id="r"))
        meter.start(Journal(database))
        meter.pause()
        before = meter.seconds_left()
        await asyncio.sleep(0.02)
        assert meter.seconds_left() == before
        meter.resume()
        await asyncio.sleep(0.02)
        after = meter.seconds_left()
        assert before is not None and after is not None and after < before
