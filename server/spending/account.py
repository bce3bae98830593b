"""One budget in memory: what counts against it, what calls under way hold of it, and who waits for that."""

import asyncio
from collections.abc import Callable
from typing import Any

from portway.server.agents.types import Budget
from portway.server.spending.months import Month
from portway.server.spending.types import NOTHING, Amounts, Level, Limit, Subject, limits_of

# Part of a limit at which operators are told.
WARNING = 0.8
# What is certain to be used by a call before it is made; of the rest it is known only afterwards.
_CERTAIN = ("calls", "bytes")


class Account:
    """One subject in one month. `base` is what the database said at `loaded`; what is charged here is added to it."""

    def __init__(self, key: Subject, month: Month, notice: Callable[["Account", Limit], None]) -> None:
        self.key = key
        self.month = month
        self.budget = Budget()
        self.used = NOTHING
        self.held = NOTHING
        self.loaded: float | None = None
        self.loading: asyncio.Future[Any] | None = None
        self.since_asked = NOTHING
        self._notice = notice
        self._warned: set[str] = set()
        self._changed = asyncio.Event()

    @property
    def whose(self) -> str:
        """As people read it."""
        if self.key.level is Level.RUN:
            return "the run"
        return f"the {self.key.level} {self.key.subject_id} in {self.month.name}"

    def add(self, amounts: Amounts) -> None:
        """It was used."""
        self.used += amounts
        self.since_asked += amounts
        self._look()

    def take_over(self, used: Amounts, now: float) -> None:
        """What the database knows, and what it did not know yet. What was over the mark already is not told again."""
        self.used = used
        self.loaded = now
        self._warned |= {one.name for one in self.limits() if one.used >= one.limit * WARNING}
        self._wake()

    def hold(self, amounts: Amounts) -> None:
        self.held += amounts

    def give_back(self, amounts: Amounts) -> None:
        self.held -= amounts
        self._wake()

    def limits(self) -> list[Limit]:
        return limits_of(self.budget, self.used, self.held)

    def spent(self) -> Limit | None:
        """A dimension of which nothing is left."""
        return next((one for one in self.limits() if one.used >= one.limit), None)

    def refusal(self, wanted: Amounts) -> Limit | None:
        """The dimension in which there is no room for what is wanted, whatever calls under way may give back."""
        for limit, asked in zip(self.limits(), limits_of(self.budget, wanted, NOTHING), strict=True):
            if limit.name in _CERTAIN:
                if limit.used + limit.held + asked.used > limit.limit:
                    return limit
            elif limit.used >= limit.limit:
                return limit
        return None

    def is_free(self) -> bool:
        """Whether there is room now; otherwise calls under way hold the rest of it."""
        return all(one.used + one.held < one.limit for one in self.limits() if one.name not in _CERTAIN)

    async def change(self) -> None:
        """Wait until something was given back."""
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _look(self) -> None:
        for limit in self.limits():
            if limit.name not in self._warned and limit.used >= limit.limit * WARNING:
                self._warned.add(limit.name)
                self._notice(self, limit)
