"""Why did it not answer: one call tells the whole way, and a simulation goes the same one."""

from portway.server.agents.types import InboundGuards
from portway.v1 import event_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.hosting import Hosted, a_message


async def explained(host: Hosted, name: str) -> event_pb2.ExplainMessageResponse:
    answer: event_pb2.ExplainMessageResponse = await host.events.ExplainMessage(
        event_pb2.ExplainMessageRequest(id=name)
    )
    return answer


def stages(steps: list[event_pb2.ExplainStep]) -> list[str]:
    """In order, each once where it comes several times in a row."""
    names = [step.stage for step in steps]
    return [name for index, name in enumerate(names) if not index or names[index - 1] != name]


async def test_the_way_of_a_message_from_the_door_to_the_end(host: Hosted, runtime: FakeRuntime) -> None:
    async def answers(run: FakeRun) -> None:
        await run.answer("hello")

    runtime.script = answers
    asked = a_message("hi")
    simulated = await host.events.SimulateEvent(event_pb2.SimulateEventRequest(event=asked, idempotency_key="k1"))
    assert not runtime.runs
    accepted = await host.submit(asked, key="k1")
    await host.ended(accepted.run_id)
    told = await explained(host, accepted.event_id)
    assert stages(list(told.steps)) == ["accept", "dedupe", "guard", "binding", "snapshot", "run", "outcome"]
    in_common = ("accept", "dedupe", "guard", "binding", "snapshot")
    assert {*in_common} <= set(stages(list(simulated.steps))) and all(step.ok for step in simulated.steps)
    binding = next(step for step in told.steps if step.stage == "binding")
    assert binding.details["considered"] and binding.details["reason"]
    layers = [step.summary for step in told.steps if step.stage == "snapshot"]
    assert [text.split()[0] for text in layers[:3]] == ["manifest", "policy", "event"] and "it may use" in layers[-1]
    assert any("attempt 1" in step.summary for step in told.steps)
    assert told.steps[-1].summary == told.conclusion == "It completed (stop)." and told.steps[-1].ok


async def test_a_refused_message_says_which_guard(host: Hosted, runtime: FakeRuntime) -> None:
    await host.set_agent(guards=InboundGuards(denied_sender_ids=("person-of-chat-1",)))
    accepted = await host.submit()
    told = await explained(host, accepted.event_id)
    assert stages(list(told.steps)) == ["accept", "dedupe", "guard", "outcome"]
    assert not told.steps[2].ok and told.steps[2].summary in told.conclusion and not told.run_ids
