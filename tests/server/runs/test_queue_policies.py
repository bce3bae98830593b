"""What happens to a message that arrives while the conversation has a run."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from portway.rpc.errors import LimitExceeded, Reason, WrongState
from portway.rpc.status import errors_by_meaning
from portway.server.agents.types import QueuePolicy
from portway.v1 import conversation_pb2, conversation_pb2_grpc, event_pb2, run_pb2, run_pull_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime, a_manifest, answer_hello
from tests.server.hosting import LIMITS, Hosted, hosted, text_part
from tests.waiting import until


@pytest.fixture
def runtime_manifest(runtime: FakeRuntime) -> None:
    """The runner takes messages while it runs."""
    runtime.manifest.CopyFrom(a_manifest(capabilities=["steering"]))


class Gate:
    """A runner that answers when it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, run: FakeRun) -> None:
        waiting = {asyncio.create_task(self.open.wait()), asyncio.create_task(run.cancelled.wait())}
        _, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if run.cancelled.is_set():
            await run.send(run.result(run_failed={"error": {"code": "cancelled"}}))
        else:
            await answer_hello(run)


async def test_runs_of_one_conversation_never_overlap_and_keep_their_order(host: Hosted, runtime: FakeRuntime) -> None:
    gate = runtime.script = Gate()
    accepted = [await host.submit(f"message {number}", chat="same") for number in range(5)]
    other = await host.submit("elsewhere", chat="other")
    await until(lambda: len(runtime.runs) == 2)
    assert {run.context.input.text for run in runtime.runs} == {"message 0", "elsewhere"}
    gate.open.set()
    for one in [*accepted, other]:
        assert (await host.ended(one.run_id)).state == run_pb2.RUN_STATE_COMPLETED
    same = [run.context.input.text for run in runtime.runs if run.context.input.text != "elsewhere"]
    assert same == [f"message {number}" for number in range(5)]
    texts = [item.text for item in await host.transcript(accepted[0].conversation_id)]
    assert [text for text in texts if text.startswith("hello")] == [f"hello, message {n}" for n in range(5)]


async def test_reject_refuses_while_a_run_is_under_way_also_two_at_once(host: Hosted, runtime: FakeRuntime) -> None:
    gate = runtime.script = Gate()
    await host.set_agent(queue_policy=QueuePolicy.REJECT)
    results = await asyncio.gather(
        *(host.submit(f"{number}", chat="same") for number in range(4)), return_exceptions=True
    )
    refused = [error for error in results if isinstance(error, WrongState)]
    assert len(refused) == 3 and all(error.reason == Reason.CONVERSATION_BUSY for error in refused)
    assert all(error.retry_after for error in refused)
    gate.open.set()
    (accepted,) = (one for one in results if isinstance(one, event_pb2.SubmitEventResponse))
    await host.ended(accepted.run_id)
    assert (await host.asked("later", chat="same")).state == run_pb2.RUN_STATE_COMPLETED


async def test_interrupt_cancels_the_run_that_is_under_way(host: Hosted, runtime: FakeRuntime) -> None:
    runtime.script = Gate()
    await host.set_agent(queue_policy=QueuePolicy.INTERRUPT)
    first = await host.submit("first", chat="same")
    await until(lambda: len(runtime.runs) == 1)
    runtime.script = answer_hello
    second = await host.submit("second", chat="same")
    assert (await host.ended(second.run_id)).state == run_pb2.RUN_STATE_COMPLETED
    stopped = await host.run(first.run_id)
    assert stopped.state == run_pb2.RUN_STATE_CANCELLED and "newer message" in stopped.error.message


@pytest.mark.usefixtures("runtime_manifest")
async def test_steer_puts_the_message_into_the_run_and_it_counts_once_it_was_pulled(
    runtime: FakeRuntime, host: Hosted
) -> None:
    async def listens(run: FakeRun) -> None:
        await run.steered.wait()
        pulled = await run.ask("pull_steering", run_pull_pb2.PullSteeringRequest())
        again = await run.ask("pull_steering", run_pull_pb2.PullSteeringRequest())
        assert not again.messages
        await run.answer("heard: " + pulled.messages[0].input.text)

    runtime.script = listens
    await host.set_agent(queue_policy=QueuePolicy.STEER)
    first = await host.submit("begin", chat="same")
    await until(lambda: host.parts.dispatcher.steerable("default", first.conversation_id) is not None)
    second = await host.submit("and this", chat="same")
    assert second.outcome == event_pb2.EVENT_OUTCOME_STEER and second.run_id == first.run_id
    events = await host.watch(first.run_id)
    assert [e.steering.outcome for e in events if e.WhichOneof("kind") == "steering"] == ["queued", "injected"]
    texts = [item.text for item in await host.transcript(first.conversation_id)]
    assert texts == ["begin", "and this", "heard: and this"]
    assert len(runtime.runs) == 1


@pytest.mark.usefixtures("runtime_manifest")
async def test_a_message_that_the_run_never_took_becomes_a_run_of_its_own(runtime: FakeRuntime, host: Hosted) -> None:
    async def deaf(run: FakeRun) -> None:
        if len(runtime.runs) == 1:
            await run.steered.wait()
        await answer_hello(run)

    runtime.script = deaf
    await host.set_agent(queue_policy=QueuePolicy.STEER)
    first = await host.submit("begin", chat="same")
    await until(lambda: host.parts.dispatcher.steerable("default", first.conversation_id) is not None)
    second = await host.submit("and this", chat="same")
    await host.ended(first.run_id)
    await until(lambda: len(runtime.runs) == 2)
    with errors_by_meaning():
        found = await host.events.GetEvent(event_pb2.GetEventRequest(event_id=second.event_id))
    assert found.outcome == event_pb2.EVENT_OUTCOME_RUN and len(found.run_ids) == 1
    assert (await host.ended(found.run_ids[0])).state == run_pb2.RUN_STATE_COMPLETED
    assert runtime.runs[1].context.input.text == "and this"


@pytest.mark.usefixtures("runtime_manifest")
async def test_sixteen_messages_wait_for_a_run_and_the_rest_follow_it_as_runs(
    runtime: FakeRuntime, host: Hosted
) -> None:
    gate = runtime.script = Gate()
    await host.set_agent(queue_policy=QueuePolicy.STEER)
    first = await host.submit("begin", chat="same")
    await until(lambda: host.parts.dispatcher.steerable("default", first.conversation_id) is not None)
    more = [await host.submit(f"{number}", chat="same") for number in range(18)]
    outcomes = [one.outcome for one in more]
    assert outcomes == [event_pb2.EVENT_OUTCOME_STEER] * 16 + [event_pb2.EVENT_OUTCOME_RUN] * 2
    gate.open.set()
    ledger = [e.steering for e in await host.watch(first.run_id) if e.WhichOneof("kind") == "steering"]
    assert [one.outcome for one in ledger] == ["queued"] * 16 + ["dropped"] * 16
    assert [one.event_id for one in ledger[16:]] == [one.event_id for one in more[:16]]
    # None is lost, none is answered twice, and they keep their order.
    await until(lambda: len(runtime.runs) == 19 and not host.parts.dispatcher.active_count)
    assert [run.context.input.text for run in runtime.runs] == ["begin", *(str(number) for number in range(18))]


async def test_interrupt_with_several_waiting_stops_only_what_executes(host: Hosted, runtime: FakeRuntime) -> None:
    runtime.script = Gate()
    first = await host.submit("first", chat="same")
    await until(lambda: len(runtime.runs) == 1)
    waiting = [await host.submit(f"{number}", chat="same") for number in range(3)]
    await host.set_agent(queue_policy=QueuePolicy.INTERRUPT)
    runtime.script = answer_hello
    last = await host.submit("last", chat="same")
    assert (await host.ended(first.run_id)).state == run_pb2.RUN_STATE_CANCELLED
    for one in [*waiting, last]:
        assert (await host.ended(one.run_id)).state == run_pb2.RUN_STATE_COMPLETED
    assert [run.context.input.text for run in runtime.runs] == ["first", "0", "1", "2", "last"]


async def test_more_waiting_runs_than_allowed_are_refused_and_may_be_sent_again(
    tmp_path: Path, runtime: FakeRuntime
) -> None:
    gate = runtime.script = Gate()
    async with hosted(tmp_path, runtime, limits=dataclasses.replace(LIMITS, waiting_runs=2)) as host:
        await host.set_agent()
        first = await host.submit("first", chat="same")
        await until(lambda: len(runtime.runs) == 1)
        waiting = [await host.submit(f"{number}", chat="same") for number in range(2)]
        with pytest.raises(LimitExceeded) as caught:
            await host.submit("too many", chat="same", key="again")
        assert caught.value.reason == Reason.OVERLOADED and caught.value.retry_after
        gate.open.set()
        for one in [first, *waiting]:
            await host.ended(one.run_id)
        again = await host.submit("too many", chat="same", key="again")
        assert (await host.ended(again.run_id)).state == run_pb2.RUN_STATE_COMPLETED


async def test_a_noisy_chat_and_a_quiet_one_take_turns(tmp_path: Path, runtime: FakeRuntime) -> None:
    """The order of starts, one at a time: not how long anything takes."""
    gate = runtime.script = Gate()
    async with hosted(tmp_path, runtime, limits=dataclasses.replace(LIMITS, active_runs=1)) as host:
        await host.set_agent()
        accepted = [await host.submit(f"noise {n}", chat=f"noisy-{n % 2}") for n in range(20)]
        accepted.append(await host.submit("quiet", chat="quiet"))
        await until(lambda: len(runtime.runs) == 1)
        gate.open.set()
        for one in accepted:
            await host.ended(one.run_id)
    order = [run.context.input.text for run in runtime.runs]
    assert order.index("quiet") <= 3, order
    assert [text for text in order if text != "quiet"] == [f"noise {n}" for n in range(20)]


async def test_resetting_a_conversation_leaves_its_queued_runs_to_it(host: Hosted, runtime: FakeRuntime) -> None:
    gate = runtime.script = Gate()
    old = [await host.submit(f"{number}", chat="same") for number in range(3)]
    stub = conversation_pb2_grpc.ConversationServiceStub(host.channel)
    with errors_by_meaning():
        request = conversation_pb2.ResetConversationRequest(conversation_id=old[0].conversation_id)
        await stub.ResetConversation(request)
    new = await host.submit("anew", chat="same")
    assert new.conversation_id != old[0].conversation_id
    gate.open.set()
    for one in [*old, new]:
        assert (await host.ended(one.run_id)).state == run_pb2.RUN_STATE_COMPLETED
    texts = [item.text for item in await host.transcript(old[0].conversation_id)]
    assert [text for text in texts if text.startswith("hello")] == [f"hello, {number}" for number in range(3)]
    assert [item.text for item in await host.transcript(new.conversation_id)] == ["anew", "hello, anew"]


async def test_steer_falls_back_to_the_queue_where_the_runner_takes_no_messages(
    host: Hosted, runtime: FakeRuntime
) -> None:
    gate = runtime.script = Gate()
    await host.set_agent(queue_policy=QueuePolicy.STEER)
    first = await host.submit("begin", chat="same")
    await until(lambda: len(runtime.runs) == 1)
    second = await host.submit("and this", chat="same")
    assert second.outcome == event_pb2.EVENT_OUTCOME_RUN and second.run_id != first.run_id
    gate.open.set()
    assert (await host.ended(second.run_id)).state == run_pb2.RUN_STATE_COMPLETED


@pytest.mark.usefixtures("runtime_manifest")
async def test_a_run_is_steered_by_the_api_once_for_each_request_id(runtime: FakeRuntime, host: Hosted) -> None:
    async def listens(run: FakeRun) -> None:
        await run.steered.wait()
        pulled = await run.ask("pull_steering", run_pull_pb2.PullSteeringRequest())
        await run.answer(" ".join(message.input.text for message in pulled.messages))

    runtime.script = listens
    accepted = await host.submit("begin")
    await until(lambda: host.parts.dispatcher.steerable("default", accepted.conversation_id) is not None)
    request = run_pb2.SteerRunRequest(run_id=accepted.run_id, parts=[text_part("left")], request_id="r1")
    with errors_by_meaning():
        one = await host.runs.SteerRun(request)
        two = await host.runs.SteerRun(request)
    assert one.steering_id == two.steering_id
    await host.ended(accepted.run_id)
    assert (await host.transcript(accepted.conversation_id))[-1].text == "left"


async def test_a_burst_of_chats_shares_the_places_and_everybody_is_answered(host: Hosted) -> None:
    accepted = await asyncio.gather(*(host.submit(f"{n}", chat=f"chat-{n % 20}") for n in range(100)))
    runs = await asyncio.gather(*(host.ended(one.run_id) for one in accepted))
    assert all(run.state == run_pb2.RUN_STATE_COMPLETED for run in runs)
    assert host.parts.dispatcher.active_count == 0 and host.parts.dispatcher.waiting_count == 0
