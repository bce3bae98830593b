"""Making the event of a time, through the same door as every other event."""

from dataclasses import dataclass
from typing import Protocol

from portway.rpc.errors import NotFound, WrongState
from portway.rpc.identity import Caller, Role
from portway.rpc.ids import derived_id
from portway.server.events.store import find_by_key
from portway.server.events.submit import Submit
from portway.server.events.types import Accepted
from portway.server.runs.types import Run
from portway.server.schedules.store import note_triggered
from portway.server.schedules.types import SOURCE, Overlap, Schedule, TimeOutcome, key_of
from portway.server.schedules.wire import submit_for
from portway.server.storage_engine.clock import Micros
from portway.server.storage_engine.database import Database

MAX_QUEUED = 16
_SUBJECT = "schedules"


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of a time."""

    outcome: TimeOutcome
    reason: str = ""
    event_id: str = ""
    run_id: str = ""


class Acceptor(Protocol):
    async def submit(self, caller: Caller, submit: Submit) -> Accepted:
        """Accept an event; the answer means that it is on disk."""


class Runs(Protocol):
    async def run(self, workspace_id: str, run_id: str) -> Run:
        """Raises NotFound."""

    async def open_count(self, workspace_id: str, conversation_id: str) -> int:
        """How many runs of a conversation have not ended."""


class Canceller(Protocol):
    async def cancel(self, workspace_id: str, run_id: str, reason: str) -> object:
        """Returns when the run is settled, at the latest after the grace time. Raises NotFound."""


class Trigger:
    """The event of a time is accepted once, however often it is tried: its key is the schedule and the time."""

    def __init__(self, database: Database, acceptor: Acceptor, runs: Runs, canceller: Canceller) -> None:
        self._database = database
        self._acceptor = acceptor
        self._runs = runs
        self._canceller = canceller

    async def fire(self, schedule: Schedule, time: Micros) -> Fired:
        """Raises what accepting raises; then nothing was accepted, and the same time may be tried again."""
        key = key_of(schedule.schedule_id, time)
        earlier = await self._earlier(schedule.workspace_id, key)
        if earlier is None:
            left_out = await self._overlapping(schedule)
            if left_out:
                return Fired(TimeOutcome.SKIPPED, left_out)
            earlier = await self._submit(schedule, key, time)
        return Fired(TimeOutcome.FIRED, "", earlier.event_id, earlier.run_id)

    async def by_hand(self, caller: Caller, schedule: Schedule, request_id: str) -> Accepted:
        """Raises WrongState (off), and what accepting raises."""
        workspace_id = schedule.workspace_id
        key = derived_id("trg", schedule.schedule_id, request_id)
        earlier = await self._earlier(workspace_id, key)
        if earlier is not None:
            return earlier
        if schedule.spec.disabled:
            raise WrongState(f"The schedule {schedule.schedule_id} is off. Switch it on first.")
        accepted = await self._submit(schedule, key, 0)
        reason = f"triggered by {caller.subject or caller.token_id}"
        await self._database.writer.run(
            lambda tx: note_triggered(tx, schedule, accepted.event_id, accepted.run_id, reason)
        )
        return accepted

    async def _submit(self, schedule: Schedule, key: str, time: Micros) -> Accepted:
        caller = Caller(Role.OPERATOR, schedule.workspace_id, "", _SUBJECT)
        return await self._acceptor.submit(caller, submit_for(schedule, key, time))

    async def _earlier(self, workspace_id: str, key: str) -> Accepted | None:
        return await self._database.reader.run(lambda tx: find_by_key(tx, workspace_id, SOURCE, key))

    async def _overlapping(self, schedule: Schedule) -> str:
        """Why the time is left out; '' where it is not."""
        overlap = schedule.spec.overlap
        if overlap is Overlap.ALLOW or not schedule.last_run_id:
            return ""
        try:
            last = await self._runs.run(schedule.workspace_id, schedule.last_run_id)
        except NotFound:
            return ""
        if last.state.final:
            return ""
        if overlap is Overlap.SKIP:
            return f"the last run {last.run_id} has not ended"
        if overlap is Overlap.CANCEL:
            await self._canceller.cancel(schedule.workspace_id, last.run_id, "the schedule's next time has come")
            return ""
        waiting = await self._runs.open_count(schedule.workspace_id, last.conversation_id)
        return f"{waiting} runs of its conversation wait already" if waiting > MAX_QUEUED else ""
