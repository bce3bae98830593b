"""What one attempt uses, counted against every budget that pays for it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from portway.rpc.errors import LimitExceeded, Reason
from portway.server.spending.account import Account
from portway.server.spending.months import day_at
from portway.server.spending.store import record_spending
from portway.server.spending.types import MICROS, NOTHING, Amounts, Limit, Payer, SpendingRow, is_limited, told
from portway.server.storage_engine.transaction import Transaction

Work = Callable[[Transaction], None]
# How often a time limit that several runs share is looked at again, at most.
SHORTEST_LOOK = 0.05


class Journal(Protocol):
    """Where an attempt writes."""

    def also(self, work: Callable[[Transaction], Any]) -> None:
        """Do this in the next unit."""

    def flush(self) -> object:
        """Hand the unit to the writer."""

    async def settled(self) -> None:
        """Wait until it is on disk."""


class Accounts(Protocol):
    """Finds the accounts of a payer; the run's own one first."""

    def now(self) -> int:
        """Microseconds since 1970."""

    def of(self, meter: "Meter") -> tuple[Account, ...]:
        """The accounts of this month."""

    async def load(self, accounts: Sequence[Account]) -> None:
        """Read what the database knows of those that have a limit."""

    def leave(self, meter: "Meter") -> None:
        """The attempt has ended."""

    def refused(self, meter: "Meter", account: Account, limit: Limit) -> None:
        """A budget is spent."""


@dataclass(slots=True)
class _Entry:
    amounts: Amounts = NOTHING
    held: Amounts = NOTHING
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """What is left; nothing where there is no limit."""

    tokens: int | None = None
    cost_micros: int | None = None


class Hold:
    """Part of the budgets kept for one call. Ends with `settle`, once; a second time changes nothing.

    `room` is what was left before.
    """

    def __init__(
        self, meter: "Meter", accounts: tuple[Account, ...], amounts: Amounts, model_id: str, room: Room
    ) -> None:
        self._meter = meter
        self.room = room
        self._accounts = accounts
        self.amounts = amounts
        self.model_id = model_id
        self.day = day_at(meter.accounts.now())
        self._open = True

    def settle(self, used: Amounts, *, currency: str = "", model_id: str | None = None) -> None:
        """The call has ended and used this. `model_id`: another model answered than the one that was asked."""
        if not self._open:
            return
        self._open = False
        for account in self._accounts:
            account.give_back(self.amounts)
        self._meter.settled(self, used, currency, self.model_id if model_id is None else model_id)


class Meter:
    """Of one attempt. Its end is `close`, whose unit goes into the transaction that ends the attempt.

    `on_spent` ends the run. `patient` budgets are those of money and tokens: a call waits for what others hold of them.
    """

    def __init__(self, payer: Payer, accounts: Accounts) -> None:
        self.payer = payer
        self.accounts = accounts
        self.on_spent: Callable[[str], None] = lambda _: None
        self._journal: Journal | None = None
        self._entries: dict[tuple[int, str], _Entry] = {}
        self._handed: dict[int, Amounts] = {}
        self._used_in: dict[int, Amounts] = {}
        self._dirty = False
        self._ended = False
        self._clock: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._now_open: tuple[Account, ...] = ()
        self._closed = False

    # Opening and closing.

    async def open(self) -> None:
        """Reads what the budgets have left. Raises LimitExceeded (BUDGET_EXHAUSTED) where one is spent."""
        self._now_open = self.accounts.of(self)
        await self.accounts.load(self._now_open)
        for account in self._now_open:
            limit = account.spent()
            if limit is not None:
                self._end(account, limit)

    def start(self, journal: Journal) -> None:
        """The run executes from now, and writes into this journal."""
        self._journal = journal
        self._clock = asyncio.get_running_loop().time()
        self._arm()

    def pause(self) -> None:
        """The run waits for a person: its time does not count until `resume`."""
        self._count_time()
        self._clock = None
        self._disarm()

    def resume(self) -> None:
        """The run executes again."""
        if self._clock is None and not self._closed:
            self._clock = asyncio.get_running_loop().time()
            self._arm()

    def close(self) -> Work | None:
        """The attempt ends: what is to be written with its end."""
        self._count_time()
        self._clock = None
        work = self.take_rows()
        self.leave()
        return work

    def leave(self) -> None:
        """Nothing more is charged."""
        self._disarm()
        if not self._closed:
            self._closed = True
            self.accounts.leave(self)

    # Charging.

    @property
    def limited(self) -> bool:
        """Whether any budget pays for this run that has a limit."""
        return any(is_limited(account.budget) for account in self._open_now())

    async def hold(self, wanted: Amounts, *, model_id: str = "") -> Hold:
        """Keep room for a call. Raises LimitExceeded (BUDGET_EXHAUSTED), and the run ends with it.

        Waits while calls under way hold all the money or tokens that are left. Where a limit pays for the run, the
        call of a model is on disk when this returns, so that a host that dies meanwhile does not forget it.
        """
        while True:
            accounts = self._open_now()
            await self.accounts.load(accounts)
            self._refuse_spent(wanted)
            busy = next((account for account in accounts if not account.is_free()), None)
            if busy is None:
                break
            await busy.change()
        room = self.room()
        for account in accounts:
            account.hold(wanted)
        hold = Hold(self, accounts, wanted, model_id, room)
        self._entry(hold.day, model_id).held += wanted
        self._dirty = True
        if model_id and self._journal is not None and self.limited:
            try:
                self._write()
                await self._journal.settled()
            except BaseException:
                hold.settle(NOTHING)
                raise
        return hold

    def settled(self, hold: Hold, used: Amounts, currency: str, model_id: str) -> None:
        """Called by holds."""
        self._entry(hold.day, hold.model_id).held -= hold.amounts
        self._charge(used, model_id, currency)
        self._ended = True
        if self._journal is not None and not self._closed and model_id and self.limited:
            self._write()

    def room(self) -> Room:
        """What is left of money and tokens, without what calls under way hold."""
        tokens, money = [], []
        for account in self._open_now():
            for limit in account.limits():
                left = max(0, limit.limit - limit.used - limit.held)
                if limit.name == "tokens":
                    tokens.append(left)
                elif limit.name == "cost":
                    money.append(left)
        return Room(min(tokens, default=None), min(money, default=None))

    def seconds_left(self) -> float | None:
        """Time left by the budgets; nothing where none limits it."""
        if all(account.budget.seconds is None for account in self._open_now()):
            return None
        self._count_time()
        left = [
            (one.limit - one.used) / MICROS
            for account in self._open_now()
            for one in account.limits()
            if one.name == "time"
        ]
        return max(0.0, min(left)) if left else None

    # Writing.

    def take_rows(self) -> Work | None:
        """The unit that writes everything so far; nothing where nothing has changed since the last time."""
        if not self._dirty:
            return None
        self._count_time()
        self._dirty = self._ended = False
        payer = self.payer
        rows = [
            SpendingRow(
                workspace_id=payer.workspace_id,
                run_id=payer.run_id,
                attempt=payer.attempt,
                day=day,
                model_id=model_id,
                agent_id=payer.agent_id,
                conversation_id=payer.conversation_id,
                currency=entry.currency,
                amounts=entry.amounts + entry.held,
            )
            for (day, model_id), entry in self._entries.items()
        ]
        handed: dict[int, Amounts] = {}
        for row in rows:
            month = row.day // 100
            handed[month] = handed.get(month, NOTHING) + row.amounts
        self._handed = handed
        return lambda tx: record_spending(tx, rows)

    def ride(self) -> Work | None:
        """What goes along with a unit that the run writes anyway: calls that have ended since the last time."""
        return self.take_rows() if self._ended else None

    def unwritten(self, month: int) -> Amounts:
        """What the database does not know of the month; 0 for all months. Less than nothing where it holds too much."""
        if month:
            return self._used_in.get(month, NOTHING) - self._handed.get(month, NOTHING)
        return sum(self._used_in.values(), NOTHING) - sum(self._handed.values(), NOTHING)

    def _write(self) -> None:
        work = self.take_rows()
        if work is not None and self._journal is not None:
            self._journal.also(work)
            self._journal.flush()

    def _charge(self, used: Amounts, model_id: str, currency: str = "") -> None:
        day = day_at(self.accounts.now())
        entry = self._entry(day, model_id)
        entry.amounts += used
        entry.currency = currency or entry.currency
        self._used_in[day // 100] = self._used_in.get(day // 100, NOTHING) + used
        self._dirty = True
        for account in self._open_now():
            account.add(used)

    def _entry(self, day: int, model_id: str) -> _Entry:
        return self._entries.setdefault((day, model_id), _Entry())

    def _open_now(self) -> tuple[Account, ...]:
        """The accounts of this month: a run may go on into the next one."""
        if not self._closed and (not self._now_open or self.accounts.now() >= self._now_open[-1].month.end):
            self._now_open = self.accounts.of(self)
        return self._now_open

    def _refuse_spent(self, wanted: Amounts) -> None:
        for account in self._open_now():
            limit = account.refusal(wanted)
            if limit is not None:
                self._end(account, limit)

    def _end(self, account: Account, limit: Limit) -> None:
        what = f"the budget of {account.whose} is spent: {told(limit)}"
        self.accounts.refused(self, account, limit)
        self.on_spent(what)
        raise LimitExceeded(
            f"{what[0].upper()}{what[1:]}.",
            reason=Reason.BUDGET_EXHAUSTED,
            facts={"level": str(account.key.level), "dimension": limit.name},
        )

    # Time.

    def _count_time(self) -> None:
        if self._clock is None or self._closed:
            return
        moment = asyncio.get_running_loop().time()
        passed, self._clock = moment - self._clock, moment
        self._charge(Amounts(time_micros=round(passed * MICROS)), "")

    def _arm(self) -> None:
        self._disarm()
        left = self.seconds_left()
        if left is not None:
            # Others may use the same time: it is looked at again, sooner and sooner.
            self._timer = asyncio.get_running_loop().call_later(max(SHORTEST_LOOK, left / 2), self._look)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._clock is None or self._closed:
            return
        self._count_time()
        for account in self._open_now():
            for limit in account.limits():
                if limit.name == "time" and limit.used >= limit.limit:
                    self.accounts.refused(self, account, limit)
                    self.on_spent(f"the budget of {account.whose} is spent: {told(limit)}")
                    return
        self._arm()
