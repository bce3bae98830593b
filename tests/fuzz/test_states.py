"""Histories of a host, at random, beside a model of what must hold whatever was done before."""

import asyncio
import os
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from portway.rpc.errors import (
    Conflict,
    InvalidInput,
    LimitExceeded,
    NotFound,
    NotPermitted,
    OutOfRange,
    PortwayError,
    RateLimited,
    Stale,
    WrongState,
)
from portway.rpc.ids import new_id
from portway.rpc.status import errors_by_meaning
from portway.v1 import (
    agent_pb2,
    conversation_pb2,
    delivery_pb2,
    event_pb2,
    run_pb2,
    schedule_pb2,
    spending_pb2,
    workspace_pb2,
)
from tests.asking import ask
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.fuzz.attack import seconds, seed
from tests.server.hosting import Hosted, a_message, hosted, text_part

STEPS = 60
USUAL = 3.0
CHATS = ("ada", "bob", "cy")
FINAL = {
    run_pb2.RUN_STATE_COMPLETED,
    run_pb2.RUN_STATE_FAILED,
    run_pb2.RUN_STATE_CANCELLED,
}
# What a host may answer to an administrator's wish that does not fit the moment. Anything else is a bug.
EXPECTED = (
    WrongState, Stale, Conflict, InvalidInput, NotPermitted, LimitExceeded, RateLimited, OutOfRange,
)  # fmt: skip


class Histories:
    """One host and what the test knows of it."""

    def __init__(self, host: Hosted, number: int) -> None:
        self.host = host
        self.random = Random(number)
        self.accepted: dict[str, event_pb2.SubmitEventResponse] = {}
        self.bodies: dict[str, event_pb2.Event] = {}
        self.erased: set[str] = set()
        self.schedules: list[str] = []
        self.done: Counter[str] = Counter()
        self.count = 0

    async def step(self) -> None:
        name = self.random.choice(RULES)
        try:
            with errors_by_meaning():
                await getattr(self, name)()
            self.done[name] += 1
        except EXPECTED:
            self.done[f"{name} refused"] += 1

    def _key(self) -> str | None:
        alive = [key for key, one in self.accepted.items() if one.conversation_id not in self.erased]
        return self.random.choice(alive) if alive else None

    def _run_id(self) -> str:
        key = self._key()
        return self.accepted[key].run_id if key else ""

    async def submit(self) -> None:
        self.count += 1
        key, chat = f"key-{self.count}", self.random.choice(CHATS)
        word = self.random.choice(("hello", "fail", "wait"))
        event = a_message(f"{word} number {self.count}", chat=chat, source_event_type=f"m{self.count}")
        event.subject.type, event.subject.id = "message", f"m{self.count}"
        answer = await self.host.submit(event, key=key)
        assert not answer.duplicate
        self.accepted[key], self.bodies[key] = answer, event

    async def submit_again(self) -> None:
        key = self._key()
        if key is None:
            return
        answer = await self.host.submit(self.bodies[key], key=key)
        assert answer.duplicate, key
        assert (answer.event_id, answer.run_id) == (self.accepted[key].event_id, self.accepted[key].run_id)

    async def submit_otherwise(self) -> None:
        key = self._key()
        if key is not None:
            with pytest.raises(Conflict):
                await self.host.submit(a_message("something else", chat="ada"), key=key)

    async def edit(self) -> None:
        await self._amend("message.edited", "hello again")

    async def recall(self) -> None:
        await self._amend("message.recalled", "")

    async def _amend(self, kind: str, text: str) -> None:
        key = self._key()
        if key is None:
            return
        event = event_pb2.Event()
        event.CopyFrom(self.bodies[key])
        event.type = kind
        del event.parts[:]
        if text:
            event.parts.append(text_part(text))
        await self.host.submit(event, key=new_id("amend"))

    async def cancel(self) -> None:
        if run_id := self._run_id():
            await ask(self.host.channel, run_pb2.CancelRunRequest(run_id=run_id, reason="a test"))

    async def steer(self) -> None:
        if run_id := self._run_id():
            wish = run_pb2.SteerRunRequest(run_id=run_id, parts=[text_part("faster")], request_id=new_id("steer"))
            await ask(self.host.channel, wish)

    async def reset(self) -> None:
        key = self._key()
        if key is not None:
            found = conversation_pb2.ResetConversationRequest(conversation_id=self.accepted[key].conversation_id)
            await ask(self.host.channel, found)

    async def switch(self) -> None:
        on = self.random.random() < 0.4
        wanted = workspace_pb2.KillSwitch(
            kind=workspace_pb2.SWITCH_KIND_AGENT, target_id="assistant", on=on, reason="test"
        )
        await ask(self.host.channel, workspace_pb2.SetKillSwitchRequest(kill_switch=wanted))

    async def budget(self) -> None:
        agent = (await ask(self.host.channel, agent_pb2.GetAgentRequest(agent_id="assistant"))).agent
        agent.budget.Clear()
        if self.random.random() < 0.3:
            agent.budget.calls = self.random.choice((0, 1, 1000))
        await ask(self.host.channel, agent_pb2.UpdateAgentRequest(agent=agent))

    async def schedule(self) -> None:
        wanted = schedule_pb2.Schedule(name="s", cron="0 9 * * *", time_zone="Europe/Berlin", agent_id="assistant")
        made = await ask(self.host.channel, schedule_pb2.CreateScheduleRequest(schedule=wanted))
        self.schedules.append(made.schedule.schedule_id)

    async def trigger(self) -> None:
        if self.schedules:
            which = self.random.choice(self.schedules)
            await ask(self.host.channel, schedule_pb2.TriggerScheduleRequest(schedule_id=which))

    async def unschedule(self) -> None:
        if self.schedules:
            which = self.schedules.pop(self.random.randrange(len(self.schedules)))
            await ask(self.host.channel, schedule_pb2.DeleteScheduleRequest(schedule_id=which))
            with pytest.raises(NotFound):
                await ask(self.host.channel, schedule_pb2.GetScheduleRequest(schedule_id=which))

    async def deliveries(self) -> None:
        page = await ask(self.host.channel, delivery_pb2.ListDeliveriesRequest(page_size=100))
        for one in page.deliveries[:3]:
            wish: Any = self.random.choice((delivery_pb2.RetryDeliveryRequest, delivery_pb2.DiscardDeliveryRequest))
            await ask(self.host.channel, wish(delivery_id=one.delivery_id))

    async def erase(self) -> None:
        key = self._key()
        if key is None or self.random.random() < 0.7:
            return
        conversation_id = self.accepted[key].conversation_id
        await ask(
            self.host.channel, workspace_pb2.EraseDataRequest(conversation_id=conversation_id, reason="asked for it")
        )
        self.erased.add(conversation_id)

    async def look(self) -> None:
        """What was accepted is there, whatever happened since."""
        for key, answer in list(self.accepted.items())[-5:]:
            if answer.conversation_id in self.erased:
                continue
            assert (await ask(self.host.channel, event_pb2.GetEventRequest(event_id=answer.event_id))).event.event_id
            if answer.run_id:
                assert (await self.host.run(answer.run_id)).event_id == answer.event_id, key
                await ask(self.host.channel, spending_pb2.GetSpendingRequest(run_id=answer.run_id))
                await ask(self.host.channel, run_pb2.ExplainRunRequest(run_id=answer.run_id))

    async def everything_ends_well(self) -> None:
        off = workspace_pb2.KillSwitch(kind=workspace_pb2.SWITCH_KIND_AGENT, target_id="assistant", reason="over")
        await ask(self.host.channel, workspace_pb2.SetKillSwitchRequest(kill_switch=off))
        for key, answer in self.accepted.items():
            if not answer.run_id:
                continue
            if answer.conversation_id in self.erased:
                continue
            with_terminal = await self.host.watch(answer.run_id, committed_only=True)
            kinds = [event.WhichOneof("kind") for event in with_terminal]
            ends = [kind for kind in kinds if kind in ("run_completed", "run_failed")]
            assert len(ends) == 1 and kinds[-1] == ends[0], (key, kinds)
            run = await self.host.run(answer.run_id)
            assert run.state in FINAL, (key, run.state)
            assert kinds.count("message_completed") <= 1, (key, kinds)
        await self._no_message_twice()

    async def _no_message_twice(self) -> None:
        for conversation_id in {one.conversation_id for one in self.accepted.values()} - self.erased:
            items = await self.host.transcript(conversation_id)
            assert [item.sequence for item in items] == sorted(item.sequence for item in items)
            assert len({item.item_id for item in items}) == len(items)
        for conversation_id in self.erased:
            for item in await self.host.transcript(conversation_id):
                assert "number" not in item.text


RULES = (
    *("submit",) * 5, "submit_again", "submit_otherwise", "edit", "recall", "cancel", "steer", "reset", "switch",
    "budget", "schedule", "trigger", "unschedule", "deliveries", "erase", "look", "look",
)  # fmt: skip


async def plays(run: FakeRun) -> None:
    """By the word that a message begins with; one that waits ends when it is told to, or soon."""
    text = run.context.input.text
    if text.startswith("fail"):
        await run.send(run.result(run_failed={"error": {"code": "runner.error", "message": "as asked"}}))
        return
    if text.startswith("wait"):
        waiting = [asyncio.ensure_future(run.cancelled.wait()), asyncio.ensure_future(run.steered.wait())]
        await asyncio.wait(waiting, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
    await run.say("working")
    await run.answer(f"answer to {text}")


async def test_whatever_is_done_in_whatever_order_what_must_hold_holds(tmp_path: Path) -> None:
    number = seed()
    print(f"PORTWAY_FUZZ_SEED={number}")
    end = asyncio.get_running_loop().time() + seconds(USUAL)
    total: Counter[str] = Counter()
    round_number = 0
    while asyncio.get_running_loop().time() < end or round_number < 2:
        folder = tmp_path / str(round_number)
        await asyncio.to_thread(os.mkdir, folder)
        async with serve_fake_runtime(FakeRuntime(script=plays)) as runtime, hosted(folder, runtime) as host:
            await host.set_agent()
            histories = Histories(host, number + round_number)
            try:
                for _ in range(STEPS):
                    await histories.step()
                await histories.everything_ends_well()
            except (AssertionError, PortwayError) as error:
                raise AssertionError(
                    f"PORTWAY_FUZZ_SEED={number + round_number}: {error!r} {histories.done}"
                ) from error
            total += histories.done
        round_number += 1
    assert total["submit"] > 10 and total["look"] > 2, total
    print(dict(total), round_number)
