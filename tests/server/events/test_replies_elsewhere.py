"""What leaves by an adapter that is not there yet: refusals, messages of events without a place, true attachments."""

from collections.abc import Sequence
from pathlib import Path

from portway.server.agents.types import DeliveryPolicy, InboundGuards, NoticeTexts
from portway.v1 import content_pb2, delivery_pb2, delivery_pb2_grpc, event_pb2, run_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.artifacts.test_service import put
from tests.server.hosting import Hosted, a_message, hosted


async def outgoing(host: Hosted) -> Sequence[delivery_pb2.Delivery]:
    """Oldest first."""
    stub = delivery_pb2_grpc.DeliveryServiceStub(host.channel)
    page = await stub.ListDeliveries(delivery_pb2.ListDeliveriesRequest())
    return list(reversed(page.deliveries))


def words(delivery: delivery_pb2.Delivery) -> str:
    return delivery.payload.message.parts[0].text.text


async def test_who_is_refused_is_told_once_a_minute_in_the_agents_words(tmp_path: Path, runtime: FakeRuntime) -> None:
    guards = InboundGuards(denied_sender_ids=("person-of-m",), masked_outbound_patterns=("555-[0-9]+",))
    texts = NoticeTexts(refused={"en": "Please call 555-123.", "de": "Bitte anrufen."})
    async with hosted(tmp_path, runtime) as host:
        await host.set_agent(guards=guards, notices=texts, locale="de-AT")
        first = await host.submit("hi", key="k1", chat="m", surface="telegram")
        assert first.outcome == event_pb2.EVENT_OUTCOME_REFUSED
        assert (await host.submit("hi", key="k1", chat="m", surface="telegram")).duplicate
        await host.submit("hi again", chat="m", surface="telegram")
        told = await outgoing(host)
        assert [words(one) for one in told] == ["Bitte anrufen."]
        assert (told[0].target.surface, told[0].target.target, told[0].run_id) == ("telegram", "m", "")
        # Refused on the API: the answer says so, and nothing is sent.
        await host.submit("hi", chat="m")
        assert len(await outgoing(host)) == 1
        assert await host.transcript(first.conversation_id) == []
    async with hosted(tmp_path, runtime) as host:
        await host.set_agent(guards=guards, notices=texts)
        await host.submit("hi", chat="m", surface="telegram")
        assert [words(one) for one in await outgoing(host)] == ["Bitte anrufen.", "Please call ***."]


async def test_nothing_is_said_to_who_is_refused_without_a_text(host: Hosted) -> None:
    await host.set_agent(guards=InboundGuards(denied_sender_ids=("person-of-m",)))
    await host.submit("hi", chat="m", surface="telegram")
    assert await outgoing(host) == []


async def test_an_event_without_a_place_is_told_where_its_agent_says(host: Hosted, runtime: FakeRuntime) -> None:
    home = await host.submit("hi", chat="home", surface="telegram")
    await host.ended(home.run_id)
    policy = DeliveryPolicy(default_conversation_id=home.conversation_id)
    await host.set_agent(event_types=("message.received", "acme.door_opened"), delivery_policy=policy)
    accepted = await host.submit(event_pb2.Event(type="acme.door_opened", source="acme"))
    assert accepted.conversation_id == home.conversation_id
    run = await host.ended(accepted.run_id)
    assert run.state == run_pb2.RUN_STATE_COMPLETED
    told = await outgoing(host)
    assert [words(one) for one in told] == ["hello, hi", "hello, "]
    assert (told[1].target.surface, told[1].target.target) == ("telegram", "home")
    # Where that is gone, it runs all the same, and nobody is told.
    await host.set_agent(event_types=("acme.door_opened",), delivery_policy=DeliveryPolicy(default_conversation_id="x"))
    accepted = await host.submit(event_pb2.Event(type="acme.door_opened", source="acme"))
    assert (await host.ended(accepted.run_id)).state == run_pb2.RUN_STATE_COMPLETED
    assert len(await outgoing(host)) == 2


async def test_nobody_is_told_that_what_nobody_waits_for_failed(host: Hosted, runtime: FakeRuntime) -> None:
    async def fail(run: FakeRun) -> None:
        await run.send(run.result(run_failed={"error": {"code": "runner.error", "message": "no"}}))

    runtime.script = fail
    await host.set_agent(event_types=("reaction.added",))
    event = a_message("", chat="c", surface="telegram")
    event.type = "reaction.added"
    run = await host.ended((await host.submit(event)).run_id)
    assert run.state == run_pb2.RUN_STATE_FAILED and await outgoing(host) == []
    assert [item.kind for item in await host.transcript(run.conversation_id)] == ["notice"]


async def test_a_file_is_what_the_host_has_of_it_whatever_the_message_says(host: Hosted, runtime: FakeRuntime) -> None:
    seen: list[content_pb2.ArtifactRef] = []

    async def look(run: FakeRun) -> None:
        seen.extend(run.context.input.attachments)
        frame = run.message("here you are")
        part = frame.result.message_completed.message.parts.add()
        part.file.artifact.artifact_id = seen[0].artifact_id
        part.file.artifact.name, part.file.artifact.size = "other.exe", 9
        foreign = run.message("and this")
        foreign.result.message_completed.message.parts.add().file.artifact.artifact_id = "art_of_nobody"
        await run.send(frame, foreign, run.completed())

    runtime.script = look
    uploaded = await put(host, b"hello there", name="notes.txt", mime_type="text/plain")
    event = a_message("look")
    lie = content_pb2.ArtifactRef(
        artifact_id=uploaded.artifact_id, name="../../invoice.pdf", mime_type="application/pdf", size=1
    )
    event.parts.add().file.artifact.CopyFrom(lie)
    accepted = await host.submit(event, key="k")
    assert (await host.submit(event, key="k")).duplicate
    await host.ended(accepted.run_id)
    assert [(one.name, one.mime_type, one.size) for one in seen] == [("notes.txt", "text/plain", 11)]
    items = await host.transcript(accepted.conversation_id)
    kept = [content_pb2.Message.FromString(item.content).parts[1].file.artifact for item in items]
    assert [(one.name, one.size) for one in kept] == [("notes.txt", 11), ("notes.txt", 11)]
    events = await host.watch(accepted.run_id)
    assert [one.recorded.reason for one in events if one.HasField("recorded")] == ["NOT_FOUND"]
