"""The clock of the schedules: deals with every time that has come, once.

Nothing is kept here that matters: what is due is read from the database, a time is dealt with by accepting its event
under a key of its own, and only then the schedule moves on, if nobody else has moved it. A host that dies between the
two tries the same time again and finds its event; another host that was faster leaves nothing to do.
"""

import asyncio
import time as clocks
from collections.abc import Callable
from dataclasses import replace

import structlog

from portway.rpc.errors import LimitExceeded, PortwayError, Unavailable
from portway.rpc.telemetry import safe_text
from portway.server.schedules.cron import BadCron, next_after
from portway.server.schedules.plan import Plan, plan_of
from portway.server.schedules.store import Schedules, advance_schedule, move_schedule
from portway.server.schedules.trigger import Trigger
from portway.server.schedules.types import Advance, Schedule, TimeOutcome
from portway.server.storage_engine.clock import SECOND, Micros, now
from portway.server.storage_engine.writer import Writer

BATCH = 100
AT_ONCE = 16
LOOK_EVERY = 1.0
LOOKS = 30
PAUSE = 5.0
# A wall clock that falls back by more than this, against the one that only goes forward, was set.
SET_BACK = 30 * SECOND


class Scheduler:
    """`run` it. Whoever changes a schedule calls `wake`."""

    def __init__(
        self,
        writer: Writer,
        schedules: Schedules,
        trigger: Trigger,
        clock: Callable[[], Micros] = now,
        steady: Callable[[], float] = clocks.monotonic,
    ) -> None:
        self._writer = writer
        self._schedules = schedules
        self._trigger = trigger
        self._clock = clock
        self._steady = steady
        self._changed = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._paused: dict[tuple[str, str], float] = {}
        self._offset = self._drift()
        self._log = structlog.get_logger("portway.host.schedules")

    def wake(self) -> None:
        """A schedule is new or has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        looked_over = False
        while True:
            try:
                if not looked_over or self._was_set_back():
                    await self.look_over()
                    looked_over = True
                await self.tick()
                await self._wait()
            except PortwayError as error:
                self._log.warning("schedules wait for the database", reason=safe_text(error))
                await asyncio.sleep(PAUSE)

    async def tick(self) -> int:
        """Deal with everything that is due; answers how many schedules that were."""
        count = 0
        while True:
            steady = self._steady()
            self._paused = {key: until for key, until in self._paused.items() if until > steady}
            due = await self._schedules.due(self._clock(), BATCH)
            due = [one for one in due if _key(one) not in self._paused]
            if not due:
                return count
            async with asyncio.TaskGroup() as group:
                for schedule in due:
                    await self._places.acquire()
                    group.create_task(self._attend(schedule)).add_done_callback(self._give_back)
            count += len(due)

    def _give_back(self, _: "asyncio.Task[None]") -> None:
        self._places.release()

    async def look_over(self) -> None:
        """Where the clock was set back, next times lie too far ahead: count them anew. What happened once stays so,
        because its key is taken."""
        after = ("", "")
        while page := await self._schedules.waiting(after, BATCH):
            for schedule in page:
                await self._recount(schedule)
            after = _key(page[-1])

    async def _recount(self, schedule: Schedule) -> None:
        try:
            following = next_after(schedule.spec.cron, schedule.spec.time_zone, self._clock())
        except BadCron:
            return
        if following is not None and following < schedule.next_time:
            await self._writer.run(lambda tx: move_schedule(tx, schedule, following))

    async def _attend(self, schedule: Schedule) -> None:
        try:
            plan = plan_of(schedule, self._clock())
        except BadCron as error:
            await self._advance(schedule, Advance(next_time=0, outcome=TimeOutcome.REFUSED, reason=str(error)))
            return
        if not plan.times:
            reason = f"{plan.missed} and left out"
            await self._advance(schedule, Advance(next_time=plan.next_time, outcome=TimeOutcome.MISSED, reason=reason))
            return
        await self._deal(schedule, plan)

    async def _deal(self, schedule: Schedule, plan: Plan) -> None:
        """One time after the other; each is done with before the next, so that a kill in between loses none."""
        following = [*plan.times[1:], plan.next_time]
        for time, next_time in zip(plan.times, following, strict=True):
            advance = await self._dealt(schedule, time, next_time, plan.missed)
            if advance is None or not await self._advance(schedule, advance):
                return
            schedule = replace(
                schedule, next_time=advance.next_time, last_run_id=advance.run_id or schedule.last_run_id
            )

    async def _dealt(self, schedule: Schedule, time: Micros, next_time: Micros, missed: str) -> Advance | None:
        """Nothing where it is to be tried again in a moment."""
        try:
            fired = await self._trigger.fire(schedule, time)
        except (LimitExceeded, Unavailable) as error:
            self._paused[_key(schedule)] = self._steady() + max(PAUSE, error.retry_after or 0.0)
            self._log.warning("a schedule waits", schedule=schedule.schedule_id, reason=safe_text(error))
            return None
        except PortwayError as error:
            self._log.warning("a schedule's event was refused", schedule=schedule.schedule_id, reason=safe_text(error))
            reason = f"{error.reason}: {error.message}"
            return Advance(next_time=next_time, outcome=TimeOutcome.REFUSED, reason=reason, time=time)
        done = time if fired.outcome is TimeOutcome.FIRED else 0
        reason = "; ".join(part for part in (fired.reason, missed) if part)
        return Advance(
            next_time=next_time,
            outcome=fired.outcome,
            reason=reason,
            time=done,
            event_id=fired.event_id,
            run_id=fired.run_id,
        )

    async def _advance(self, schedule: Schedule, advance: Advance) -> bool:
        return await asyncio.shield(self._writer.submit(lambda tx: advance_schedule(tx, schedule, advance)))

    async def _wait(self) -> None:
        """Until the next time, a change, or a look at what other hosts have changed. The wall clock is asked every
        second, because it may be set while this waits."""
        next_time = await self._schedules.next_time()
        for _ in range(LOOKS):
            try:
                async with asyncio.timeout(self._pause(next_time)):
                    await self._changed.wait()
            except TimeoutError:
                if 0 < next_time <= self._clock() or self._drift() < self._offset - SET_BACK:
                    return
            else:
                self._changed.clear()
                return

    def _pause(self, next_time: Micros) -> float:
        left = (next_time - self._clock()) / SECOND if next_time else LOOK_EVERY
        if left <= 0:
            # It is due: now, or when its pause is over.
            return PAUSE if self._paused else 0.0
        return min(LOOK_EVERY, left)

    def _drift(self) -> Micros:
        return self._clock() - round(self._steady() * SECOND)

    def _was_set_back(self) -> bool:
        before, self._offset = self._offset, self._drift()
        return self._offset < before - SET_BACK


def _key(schedule: Schedule) -> tuple[str, str]:
    return schedule.workspace_id, schedule.schedule_id
