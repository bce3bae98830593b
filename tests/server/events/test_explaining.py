"""What would happen to an event, and what did."""

import pytest

from portway.rpc.errors import NotFound
from portway.rpc.status import errors_by_meaning
from portway.server.agents.types import QueuePolicy
from portway.server.bindings.types import BindingScope
from portway.v1 import event_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.hosting import Hosted, a_message
from tests.waiting import until


async def simulate(host: Hosted, event: event_pb2.Event, **more: str) -> event_pb2.SimulateEventResponse:
    with errors_by_meaning():
        answer: event_pb2.SimulateEventResponse = await host.events.SimulateEvent(
            event_pb2.SimulateEventRequest(event=event, **more)
        )
    return answer


async def test_a_simulation_says_what_would_happen_and_does_nothing(host: Hosted) -> None:
    counters = host.parts.stores.database.writer.counters
    units = counters.units
    answer = await simulate(host, a_message())
    assert answer.outcome == event_pb2.EVENT_OUTCOME_RUN and not answer.refusal_reason
    assert answer.binding.agent_id == "assistant" and answer.permissions.history_page
    assert [model.model_id for model in answer.resources.models] == ["demo"]
    stages = [step.stage for step in answer.steps]
    assert stages == ["accept", "binding", "snapshot", "snapshot", "snapshot", "queue"]
    assert counters.units == units
    assert not (await host.events.ListEvents(event_pb2.ListEventsRequest())).events


async def test_what_would_be_refused_is_an_answer(host: Hosted) -> None:
    assert (await simulate(host, a_message(), agent_id="nobody")).refusal_reason == "NOT_FOUND"
    assert (await simulate(host, event_pb2.Event(type="message.received"))).refusal_reason == "INVALID_FIELD"
    await host.add_agent("second")
    for agent_id in ("assistant", "second"):
        await host.bind(agent_id, scope=BindingScope.WORKSPACE)
    ambiguous = await simulate(host, a_message())
    assert ambiguous.refusal_reason == "BINDING_AMBIGUOUS" and ambiguous.outcome == event_pb2.EVENT_OUTCOME_REFUSED
    accepted = await host.submit("hi", key="k1", agent_id="assistant")
    again = await simulate(host, a_message("hi"), idempotency_key="k1", agent_id="assistant")
    assert any(step.stage == "dedupe" and step.ref == accepted.event_id for step in again.steps)


async def test_a_simulation_looks_at_the_conversation_as_it_is_now(host: Hosted, runtime: FakeRuntime) -> None:
    async def waits(run: FakeRun) -> None:
        await run.cancelled.wait()
        await run.answer("x")

    runtime.script = waits
    await host.submit("one", chat="ada")
    await until(lambda: bool(runtime.runs))
    await host.set_agent(queue_policy=QueuePolicy.REJECT)
    assert (await simulate(host, a_message(chat="ada"))).refusal_reason == "CONVERSATION_BUSY"
    assert (await simulate(host, a_message(chat="bob"))).outcome == event_pb2.EVENT_OUTCOME_RUN
    await host.set_agent(queue_policy=QueuePolicy.INTERRUPT)
    assert "cancel" in (await simulate(host, a_message(chat="ada"))).steps[-1].summary


async def test_the_whole_story_is_told_from_an_event_a_message_or_a_delivery(host: Hosted) -> None:
    accepted = await host.submit("hi", surface="web_chat", chat="ada")
    await host.ended(accepted.run_id)
    answer_id = (await host.transcript(accepted.conversation_id))[-1].item_id
    by_event = await host.events.ExplainMessage(event_pb2.ExplainMessageRequest(id=accepted.event_id))
    assert by_event.run_ids == [accepted.run_id] and len(by_event.delivery_ids) == 1
    assert by_event.conclusion == "It completed (stop)."
    assert [step.stage for step in by_event.steps][0] == "accept"
    assert {"run", "outcome", "delivery"} <= {step.stage for step in by_event.steps}
    for name in (accepted.message_id, answer_id, by_event.delivery_ids[0]):
        same = await host.events.ExplainMessage(event_pb2.ExplainMessageRequest(id=name))
        assert same.event_id == accepted.event_id
    with pytest.raises(NotFound), errors_by_meaning():
        await host.events.ExplainMessage(event_pb2.ExplainMessageRequest(id="whatever"))
