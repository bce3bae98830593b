"""Schedules over the wire, and their times by a clock that the test sets."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.errors import Conflict, InvalidInput, NotFound, Stale, WrongState
from portway.rpc.status import errors_by_meaning
from portway.server.schedules.scheduler import Scheduler
from portway.server.storage_engine.clock import SECOND
from portway.v1 import event_pb2, run_pb2, schedule_pb2, schedule_pb2_grpc
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.hosting import AGENT, Hosted, hosted
from tests.waiting import PATIENCE

MINUTE = 60 * SECOND
# Far from today, so that the host's own clock never comes to it during a test.
START = round(datetime.fromisoformat("2031-05-05T00:00:00+00:00").timestamp() * SECOND)


class Clock:
    """Set by the test."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


class Scheduled:
    """A host, a clock, and a scheduler that follows it."""

    def __init__(self, host: Hosted) -> None:
        self.host = host
        self.clock = Clock()
        self.stub = schedule_pb2_grpc.ScheduleServiceStub(host.channel)

    @property
    def scheduler(self) -> Scheduler:
        parts = self.host.parts
        writer = parts.stores.database.writer
        return Scheduler(writer, parts.schedules.stored, parts.schedules.trigger, self.clock)

    async def make(self, **wanted: Any) -> schedule_pb2.Schedule:
        given = {"schedule_id": "daily", "cron": "0 0 1 1 *", "agent_id": AGENT, **wanted}
        with errors_by_meaning():
            answer = await self.stub.CreateSchedule(
                schedule_pb2.CreateScheduleRequest(schedule=schedule_pb2.Schedule(**given))
            )
        made: schedule_pb2.Schedule = answer.schedule
        return made

    async def due(self, time: int, cron: str, schedule_id: str = "daily") -> None:
        """As if it had been made with this expression just before the time."""
        await self.host.parts.stores.database.writer.run(
            lambda tx: tx.execute(
                "UPDATE schedules SET next_time = :time, spec = replace(spec, '0 0 1 1 *', :cron) "
                "WHERE schedule_id = :schedule_id",
                {"time": time, "cron": cron, "schedule_id": schedule_id},
            )
        )

    async def tick(self, time: int) -> schedule_pb2.Schedule:
        self.clock.now = time
        await self.scheduler.tick()
        return await self.read()

    async def read(self, schedule_id: str = "daily") -> schedule_pb2.Schedule:
        with errors_by_meaning():
            answer = await self.stub.GetSchedule(schedule_pb2.GetScheduleRequest(schedule_id=schedule_id))
        found: schedule_pb2.Schedule = answer.schedule
        return found

    async def events(self) -> list[event_pb2.EventSummary]:
        """Oldest first."""
        page = await self.host.events.ListEvents(event_pb2.ListEventsRequest(types=["schedule.triggered"]))
        return list(reversed(page.events))

    async def times(self) -> list[int]:
        """Nominal times of all its events, in minutes after the start."""
        found = []
        for summary in await self.events():
            event = (await self.host.events.GetEvent(event_pb2.GetEventRequest(event_id=summary.event_id))).event
            found.append((event.event_time.ToMicroseconds() - START) // MINUTE)
        return found


@pytest.fixture
async def scheduled(host: Hosted) -> AsyncIterator[Scheduled]:
    yield Scheduled(host)


async def test_a_time_makes_one_event_of_the_system(scheduled: Scheduled, runtime: FakeRuntime) -> None:
    seen: list[Any] = []

    async def look(run: FakeRun) -> None:
        seen.append(run.context)
        await run.answer("good morning")

    runtime.script = look
    await scheduled.make(data={"city": "Kyoto"}, conversation_id="chat-of-its-own")
    await scheduled.due(START, "0 * * * *")
    schedule = await scheduled.tick(START + SECOND)
    assert schedule.last_outcome == schedule_pb2.SCHEDULE_OUTCOME_FIRED
    assert schedule.last_time.ToMicroseconds() == START
    assert schedule.next_time.ToMicroseconds() == START + 60 * MINUTE
    run = await scheduled.host.ended(schedule.last_run_id)
    assert (run.state, run.conversation_id) == (run_pb2.RUN_STATE_COMPLETED, "chat-of-its-own")
    context = seen[0]
    assert (context.actor.type, context.subject.type, context.subject.id) == ("system", "schedule", "daily")
    assert context.event.type == "schedule.triggered" and context.event.data["city"] == "Kyoto"
    assert context.input.text == "" and not context.input.contents
    # What the clock did is nobody's message.
    assert [item.role for item in await scheduled.host.transcript("chat-of-its-own")] == ["assistant"]
    await scheduled.tick(START + 2 * SECOND)
    assert await scheduled.times() == [0]


async def test_the_same_time_is_never_fired_twice(scheduled: Scheduled) -> None:
    await scheduled.make(overlap="OVERLAP_POLICY_ALLOW")
    await scheduled.due(START, "0 * * * *")
    first = await scheduled.tick(START)
    # A host that dies between accepting the event and moving on, and one whose clock is set back.
    await scheduled.due(START, "0 * * * *")
    again = await scheduled.tick(START)
    assert (again.last_event_id, again.last_run_id) == (first.last_event_id, first.last_run_id)
    # Several hosts that see the same time at once.
    await scheduled.due(START + 60 * MINUTE, "0 * * * *")
    scheduled.clock.now = START + 60 * MINUTE
    await asyncio.gather(*(scheduled.scheduler.tick() for _ in range(8)))
    assert await scheduled.times() == [0, 60]


async def test_a_clock_that_was_set_back_waits_no_day_for_the_next_time(scheduled: Scheduled) -> None:
    await scheduled.make(overlap="OVERLAP_POLICY_ALLOW")
    await scheduled.due(START, "0 * * * *")
    await scheduled.tick(START)
    # Set forward by a day for a moment: what lies in between was missed.
    await scheduled.tick(START + 24 * 60 * MINUTE)
    assert await scheduled.times() == [0, 1440]
    # And back: the hours in between come after all, those that happened do not come again.
    scheduled.clock.now = START + MINUTE
    await scheduled.scheduler.look_over()
    assert (await scheduled.read()).next_time.ToMicroseconds() == START + 60 * MINUTE
    await scheduled.tick(START + 60 * MINUTE)
    await scheduled.due(START + 1440 * MINUTE, "0 * * * *")
    await scheduled.tick(START + 1440 * MINUTE)
    assert await scheduled.times() == [0, 1440, 60]


@pytest.mark.parametrize(
    ("catch_up", "limit", "expected"),
    [
        ("CATCH_UP_POLICY_NONE", 0, []),
        ("CATCH_UP_POLICY_LAST", 0, [290]),
        ("CATCH_UP_POLICY_ALL", 3, [270, 280, 290]),
        ("CATCH_UP_POLICY_ALL", 100, list(range(0, 300, 10))),
    ],
)
async def test_missed_times_are_made_up_for_by_policy(
    scheduled: Scheduled, catch_up: str, limit: int, expected: list[int]
) -> None:
    await scheduled.make(catch_up=catch_up, catch_up_limit=limit, overlap="OVERLAP_POLICY_ALLOW")
    await scheduled.due(START, "*/10 * * * *")
    schedule = await scheduled.tick(START + 299 * MINUTE)
    assert await scheduled.times() == expected
    assert schedule.next_time.ToMicroseconds() == START + 300 * MINUTE
    if expected[:1] != [0]:
        assert "missed" in schedule.last_reason
    if not expected:
        assert schedule.last_outcome == schedule_pb2.SCHEDULE_OUTCOME_MISSED
    # Punctual again.
    await scheduled.tick(START + 300 * MINUTE + SECOND)
    assert (await scheduled.times())[-1] == 300


@pytest.mark.parametrize("overlap", ["SKIP", "QUEUE", "CANCEL", "ALLOW"])
async def test_what_happens_while_the_last_run_executes(
    scheduled: Scheduled, runtime: FakeRuntime, overlap: str
) -> None:
    begun, go = asyncio.Queue[FakeRun](), asyncio.Event()

    async def hold(run: FakeRun) -> None:
        begun.put_nowait(run)
        stopped = asyncio.create_task(run.cancelled.wait())
        going = asyncio.create_task(go.wait())
        await asyncio.wait([stopped, going], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        going.cancel()
        if not run.cancelled.is_set():
            await run.answer("done")

    runtime.script = hold
    await scheduled.make(overlap=f"OVERLAP_POLICY_{overlap}", conversation_id="place")
    await scheduled.due(START, "0 * * * *")
    first = await scheduled.tick(START)
    await asyncio.wait_for(begun.get(), PATIENCE)
    second = await scheduled.tick(START + 60 * MINUTE)
    if overlap == "SKIP":
        assert second.last_outcome == schedule_pb2.SCHEDULE_OUTCOME_SKIPPED
        assert first.last_run_id in second.last_reason and second.last_run_id == first.last_run_id
    elif overlap == "QUEUE":
        assert (await scheduled.host.run(second.last_run_id)).state == run_pb2.RUN_STATE_QUEUED
    elif overlap == "CANCEL":
        assert (await scheduled.host.run(first.last_run_id)).state == run_pb2.RUN_STATE_CANCELLED
        await asyncio.wait_for(begun.get(), PATIENCE)
    else:
        await asyncio.wait_for(begun.get(), PATIENCE)
        assert (await scheduled.host.run(first.last_run_id)).state == run_pb2.RUN_STATE_RUNNING
    go.set()
    await scheduled.host.ended(second.last_run_id)
    expected = 1 if overlap == "SKIP" else 2
    assert len(await scheduled.events()) == expected


async def test_a_schedule_that_cannot_keep_up_leaves_times_out(scheduled: Scheduled, runtime: FakeRuntime) -> None:
    go = asyncio.Event()

    async def hold(run: FakeRun) -> None:
        await go.wait()
        await run.answer("done")

    runtime.script = hold
    await scheduled.make(overlap="OVERLAP_POLICY_QUEUE")
    await scheduled.due(START, "* * * * *")
    for minute in range(25):
        schedule = await scheduled.tick(START + minute * MINUTE)
    assert schedule.last_outcome == schedule_pb2.SCHEDULE_OUTCOME_SKIPPED and "wait already" in schedule.last_reason
    assert len(await scheduled.events()) == 17
    go.set()
    await scheduled.host.ended(schedule.last_run_id)


async def test_a_refused_event_is_told_and_the_schedule_goes_on(scheduled: Scheduled) -> None:
    await scheduled.make()
    await scheduled.due(START, "0 * * * *")
    await scheduled.host.set_agent(disabled=True)
    schedule = await scheduled.tick(START)
    assert schedule.last_outcome == schedule_pb2.SCHEDULE_OUTCOME_REFUSED
    assert "AGENT_DISABLED" in schedule.last_reason and await scheduled.events() == []
    await scheduled.host.set_agent()
    assert (await scheduled.tick(START + 60 * MINUTE)).last_outcome == schedule_pb2.SCHEDULE_OUTCOME_FIRED


async def test_made_changed_listed_removed(scheduled: Scheduled, host: Hosted) -> None:
    made = await scheduled.make(name="Daily", time_zone="Asia/Tokyo")
    assert made.revision == 1 and made.HasField("next_time") and made.managed_by
    with pytest.raises(Conflict):
        await scheduled.make()
    with pytest.raises(Conflict):
        await scheduled.make(schedule_id="other", name="Daily")
    for field, broken in [("schedule.cron", {"cron": "nonsense"}), ("schedule.time_zone", {"time_zone": "Mars/Base"})]:
        with pytest.raises(InvalidInput) as caught:
            await scheduled.make(schedule_id="broken", **broken)
        assert [one.field for one in caught.value.fields] == [field]
    with pytest.raises(NotFound):
        await scheduled.make(schedule_id="broken", agent_id="nobody")
    made.disabled = True
    change = schedule_pb2.UpdateScheduleRequest(schedule=made)
    off = (await scheduled.stub.UpdateSchedule(change)).schedule
    assert off.revision == 2 and not off.HasField("next_time")
    with pytest.raises(Stale), errors_by_meaning():
        await scheduled.stub.UpdateSchedule(change)
    with pytest.raises(WrongState), errors_by_meaning():
        await scheduled.stub.TriggerSchedule(schedule_pb2.TriggerScheduleRequest(schedule_id="daily", request_id="r"))
    await scheduled.make(schedule_id="second")
    first = await scheduled.stub.ListSchedules(schedule_pb2.ListSchedulesRequest(page_size=1))
    rest = await scheduled.stub.ListSchedules(
        schedule_pb2.ListSchedulesRequest(page_size=1, page_token=first.next_page_token)
    )
    assert [one.schedule_id for one in [*first.schedules, *rest.schedules]] == ["daily", "second"]
    removal = schedule_pb2.DeleteScheduleRequest(schedule_id="daily")
    await scheduled.stub.DeleteSchedule(removal)
    with pytest.raises(NotFound), errors_by_meaning():
        await scheduled.stub.DeleteSchedule(removal)


async def test_the_same_request_makes_one_schedule_and_one_event(scheduled: Scheduled) -> None:
    wanted = schedule_pb2.Schedule(name="n", cron="@yearly", agent_id=AGENT)
    request = schedule_pb2.CreateScheduleRequest(schedule=wanted, request_id="r1")
    made = [(await scheduled.stub.CreateSchedule(request)).schedule.schedule_id for _ in range(2)]
    assert made[0] == made[1] and made[0].startswith("sch_")
    trigger = schedule_pb2.TriggerScheduleRequest(schedule_id=made[0], request_id="t1")
    answers = [await scheduled.stub.TriggerSchedule(trigger) for _ in range(2)]
    assert answers[0] == answers[1] and answers[0].run_id
    await scheduled.host.ended(answers[0].run_id)
    assert len(await scheduled.events()) == 1


async def test_nobody_else_speaks_for_the_clock(scheduled: Scheduled) -> None:
    event = event_pb2.Event(type="schedule.triggered", source="portway.schedules")
    with pytest.raises(InvalidInput) as caught:
        await scheduled.host.submit(event, key=f"daily:{START}")
    assert [one.field for one in caught.value.fields] == ["event.source"]


async def test_the_file_declares_schedules_that_only_the_file_changes(tmp_path: Path, runtime: FakeRuntime) -> None:
    file = tmp_path / "portway.yaml"
    declared = "schedules:\n- {schedule_id: nightly, cron: '@daily', agent_id: assistant, time_zone: Europe/Paris}\n"
    file.write_text(declared)
    async with hosted(tmp_path, runtime, file=file) as host:
        scheduled = Scheduled(host)
        found = await scheduled.read("nightly")
        assert (found.cron, found.time_zone, found.name) == ("@daily", "Europe/Paris", "nightly")
        with pytest.raises(WrongState), errors_by_meaning():
            await scheduled.stub.DeleteSchedule(schedule_pb2.DeleteScheduleRequest(schedule_id="nightly"))
    async with hosted(tmp_path, runtime, file=file) as host:
        assert (await Scheduled(host).read("nightly")).revision == 1
    file.write_text("schedules: []\n")
    async with hosted(tmp_path, runtime, file=file) as host:
        with pytest.raises(NotFound):
            await Scheduled(host).read("nightly")
