"""AdapterService.Connect over the wire, with a client that acts as an adapter."""

import asyncio

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.errors import InvalidInput, LimitExceeded, NotPermitted, Reason, WrongState
from portway.v1 import adapter_pb2, event_pb2
from portway.v1.adapter_pb2_grpc import AdapterServiceStub
from tests.fakes.adapter_client import an_adapter
from tests.fakes.adapter_host import AdapterHost
from tests.fakes.engine import text_of
from tests.waiting import until


async def test_a_message_is_acknowledged_and_answered_by_a_delivery(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        welcome = await adapter.hello()
        assert (welcome.generation, welcome.host_version) == (1, "0.0.test")
        ref = await adapter.submit("hello", key="1")
        ack = await adapter.next("ack")
        assert ack.ref == ref
        assert ack.accepted.event_id.startswith("evt_")
        assert ack.accepted.outcome == event_pb2.EVENT_OUTCOME_RUN
        delivery = await adapter.next("delivery")
        assert text_of(delivery) == "echo: hello"
        assert delivery.run_id == ack.accepted.run_id
        await adapter.tell(delivery.delivery_id, provider_message_id="17")
        await adapter.leave()


async def test_the_source_of_an_event_is_the_adapter_whatever_it_claims(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello("chat-1")
        event = event_pb2.Event(type="group.member_joined", source="somebody_else")
        request = event_pb2.SubmitEventRequest(event=event, idempotency_key="1")
        await adapter.send(event=adapter_pb2.AdapterEvent(ref=1, submit=request))
        await adapter.next("ack")
    rows = await host.database.reader.run(lambda tx: tx.all("SELECT source FROM events"))
    assert rows == [("chat-1",)]


async def test_the_same_key_again_is_a_duplicate_and_is_answered_once(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello()
        await adapter.submit("hello", key="1")
        await adapter.submit("hello", key="1")
        await adapter.submit("bye", key="2")
        acks = {ack.ref: ack for ack in [await adapter.next("ack") for _ in range(3)]}
        assert acks[2].accepted.duplicate
        assert acks[1].accepted.event_id == acks[2].accepted.event_id
        texts = []
        for _ in range(2):
            delivery = await adapter.next("delivery")
            texts.append(text_of(delivery))
            await adapter.tell(delivery.delivery_id)
        assert texts == ["echo: hello", "echo: bye"]


async def test_a_refused_event_says_why_and_the_stream_goes_on(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello()
        host.acceptor.refuse_next = LimitExceeded("Too much.", reason=Reason.OVERLOADED, retry_after=1.5)
        await adapter.submit("hello", key="1")
        ack = await adapter.next("ack")
        assert (ack.error.code, ack.error.retryable, ack.retry_after.ToMilliseconds()) == ("OVERLOADED", True, 1500)
        await adapter.submit("hello", key="1")
        assert (await adapter.next("ack")).accepted.event_id


async def test_an_event_that_breaks_the_rules_is_refused_with_its_field(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello()
        await adapter.submit("no key", key="")
        ack = await adapter.next("ack")
        assert ack.error.code == "INVALID_FIELD"
        assert "idempotency_key" in ack.error.message
        assert not ack.error.retryable


async def test_a_bug_while_an_event_is_accepted_ends_nothing_but_that_event(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello()
        host.acceptor.fail_next = ZeroDivisionError("a bug")
        await adapter.submit("hello", key="1")
        ack = await adapter.next("ack")
        assert ack.error.code == "INTERNAL"
        assert "bug" not in ack.error.message
        await adapter.submit("hello", key="1")
        assert (await adapter.next("ack")).accepted.event_id


async def test_messages_of_one_chat_are_accepted_in_the_order_in_which_they_came(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello()
        for number in range(100):
            await adapter.submit(str(number), key=str(number), chat="ada")
        for _ in range(100):
            await adapter.next("ack")
        keys = await host.database.reader.run(lambda tx: tx.all("SELECT dedupe_key FROM events ORDER BY sequence"))
        assert [int(row[0]) for row in keys] == list(range(100))


async def test_deliveries_of_a_channel_stop_at_the_credit_that_the_adapter_gave(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello(max_unacknowledged=2)
        for number in range(4):
            await adapter.submit(str(number), key=str(number), chat=f"chat-{number}")
        for _ in range(4):
            await adapter.next("ack")
        held = [await adapter.next("delivery") for _ in range(2)]
        assert next(iter(host.connections)).held_count == 2
        await adapter.tell(held[0].delivery_id)
        held.append(await adapter.next("delivery"))
        assert next(iter(host.connections)).held_count == 2
        await adapter.tell(held[1].delivery_id)
        assert (await adapter.next("delivery")).delivery_id not in {one.delivery_id for one in held}


async def test_a_newer_connection_replaces_the_older_one_which_gets_nothing_more(host: AdapterHost) -> None:
    async with (
        an_adapter(host.address, host.tokens.adapter) as old,
        an_adapter(host.address, host.tokens.adapter) as new,
    ):
        await old.hello()
        await old.submit("hello", key="1")
        delivery = await old.next("delivery")
        assert (await new.hello()).generation == 2
        assert (await old.next("replaced")).generation == 2
        assert not any(frame.HasField("delivery") for frame in await old.rest())
        assert (await new.next("delivery")).delivery_id == delivery.delivery_id
        await new.tell(delivery.delivery_id)
        await new.submit("again", key="2")
        assert text_of(await new.next("delivery")) == "echo: again"


async def test_the_end_of_a_replaced_connection_leaves_the_newer_one_registered(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as new:
        async with an_adapter(host.address, host.tokens.adapter) as old:
            await old.hello()
            await new.hello()
            await old.next("replaced")
        assert [one.generation for one in host.connections] == [2]
        await new.submit("still here", key="1")
        assert text_of(await new.next("delivery")) == "echo: still here"


async def test_off_and_on_again_many_times_delivers_once(host: AdapterHost) -> None:
    for _ in range(10):
        async with an_adapter(host.address, host.tokens.adapter) as adapter:
            await adapter.hello()
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        assert (await adapter.hello()).generation == 11
        await adapter.submit("hello", key="1")
        delivery = await adapter.next("delivery")
        await adapter.tell(delivery.delivery_id)
        await adapter.submit("bye", key="2")
        assert text_of(await adapter.next("delivery")) == "echo: bye"


async def test_results_that_were_lost_with_a_connection_are_taken_before_anything_is_sent_again(
    host: AdapterHost,
) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello()
        await adapter.submit("one", key="1")
        first = await adapter.next("delivery")
        await adapter.submit("two", key="2")
        await adapter.next("ack")
        await adapter.next("ack")
        adapter.cut()
        await until(lambda: not list(host.connections))
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        result = adapter_pb2.DeliveryResult(
            delivery_id=first.delivery_id, outcome=adapter_pb2.DELIVERY_OUTCOME_ACKNOWLEDGED
        )
        unknown = adapter_pb2.DeliveryResult(
            delivery_id="dlv_of_nobody", outcome=adapter_pb2.DELIVERY_OUTCOME_ACKNOWLEDGED
        )
        await adapter.hello(recent_results=[result, unknown])
        assert text_of(await adapter.next("delivery")) == "echo: two"


async def test_cursors_are_kept_acknowledged_and_given_back(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        assert not (await adapter.hello()).cursors
        await adapter.send(cursor=adapter_pb2.AdapterCursorSaved(name="update_id", value="41"))
        await adapter.send(cursor=adapter_pb2.AdapterCursorSaved(name="gone", value="x"))
        await adapter.send(cursor=adapter_pb2.AdapterCursorSaved(name="update_id", value="42", ref=7))
        await adapter.send(cursor=adapter_pb2.AdapterCursorSaved(name="gone", value="", ref=8))
        refs = {(await adapter.next("cursor_ack")).ref for _ in range(2)}
        assert refs == {7, 8}
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        assert dict((await adapter.hello()).cursors) == {"update_id": "42"}
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        assert not (await adapter.hello("another")).cursors


async def test_more_values_than_fit_into_a_welcome_are_refused_and_what_is_kept_still_comes(
    host: AdapterHost,
) -> None:
    large = "x" * 65_536
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello()
        for number in range(1, 41):
            await adapter.send(cursor=adapter_pb2.AdapterCursorSaved(name=str(number), value=large, ref=number))
        answers = [await adapter.next("cursor_ack") for _ in range(40)]
        refused = [one.ref for one in answers if one.error.code]
        assert refused
        assert {one.error.code for one in answers if one.error.code} == {"QUOTA_EXCEEDED"}
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        kept = (await adapter.hello()).cursors
        assert set(kept) == {str(number) for number in range(1, 41)} - {str(ref) for ref in refused}


async def test_an_adapter_that_sends_and_does_not_read_is_held_back_and_loses_nothing(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello()

        async def send_all() -> None:
            for number in range(2_000):
                await adapter.submit(str(number), key=str(number), chat=f"chat-{number % 50}")

        sending = asyncio.ensure_future(send_all())
        for _ in range(2_000):
            assert (await adapter.next("ack")).accepted.event_id
        await sending
    rows = await host.database.reader.run(lambda tx: tx.all("SELECT COUNT(*) FROM events LIMIT 1"))
    assert rows == [(2_000,)]


async def test_live_text_of_the_runs_that_answer_its_events_comes_by_itself(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello(live_updates=True)
        await adapter.submit("hello", key="1", conversation="web-1")
        run_id = (await adapter.next("ack")).accepted.run_id
        await until(lambda: run_id in host.feeds.watching)
        host.feeds.push(run_id, b"\x0a\x01a", b"\x0a\x01b")
        update = await adapter.next("update")
        assert (update.run_id, update.conversation_id) == (run_id, "web-1")
        assert [event.run_id for event in update.events] == ["a", "b"]
        host.feeds.end(run_id)
        await until(lambda: run_id not in host.feeds.watching)


async def test_watching_a_run_of_nobody_says_so_and_ends_nothing(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello()
        await adapter.send(watch=adapter_pb2.AdapterWatch(run_id="run_missing"))
        update = await adapter.next("update")
        assert (update.run_id, update.error.code) == ("run_missing", "NOT_FOUND")
        await adapter.submit("hello", key="1")
        assert (await adapter.next("ack")).accepted.event_id


async def test_an_adapter_without_live_text_gets_none(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello()
        await adapter.submit("hello", key="1")
        await adapter.next("ack")
        await adapter.next("delivery")
        assert host.feeds.watched_after == []


async def test_only_the_first_frame_is_a_hello(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.send(watch=adapter_pb2.AdapterWatch(run_id="run_1"))
        with pytest.raises(InvalidInput) as refusal:
            await adapter.rest()
        assert refusal.value.reason == Reason.UNEXPECTED_FRAME
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello()
        await adapter.send(hello=adapter_pb2.AdapterHello(adapter_id="x"))
        with pytest.raises(InvalidInput):
            await adapter.rest()
    await until(lambda: not list(host.connections))


async def test_an_outcome_that_says_nothing_is_refused(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello()
        await adapter.tell("dlv_1", adapter_pb2.DELIVERY_OUTCOME_UNSPECIFIED)
        with pytest.raises(InvalidInput):
            await adapter.rest()


async def test_a_frame_of_a_kind_that_is_not_known_here_is_passed_over(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello()
        await adapter.send()
        await adapter.submit("hello", key="1")
        assert (await adapter.next("ack")).accepted.event_id


async def test_another_version_of_the_contract_is_refused(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        with pytest.raises(WrongState):
            await adapter.hello(protocol_version=2)


async def test_a_token_that_belongs_to_one_adapter_is_no_other(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.bound) as adapter:
        with pytest.raises(NotPermitted):
            await adapter.hello("telegram")
    async with an_adapter(host.address, host.tokens.bound) as adapter:
        assert (await adapter.hello("web_chat")).generation == 1


async def test_a_connected_adapter_is_not_replaced_by_somebody_with_another_token(host: AdapterHost) -> None:
    async with (
        an_adapter(host.address, host.tokens.adapter) as first,
        an_adapter(host.address, host.tokens.second) as second,
    ):
        await first.hello()
        with pytest.raises(WrongState):
            await second.hello()
        await first.submit("hello", key="1")
        assert (await first.next("ack")).accepted.event_id


async def test_an_adapter_of_another_workspace_neither_gets_nor_ends_its_deliveries(host: AdapterHost) -> None:
    async with (
        an_adapter(host.address, host.tokens.adapter) as ours,
        an_adapter(host.address, host.tokens.other) as theirs,
    ):
        await ours.hello()
        await theirs.hello()
        await ours.submit("hello", key="1")
        delivery = await ours.next("delivery")
        await theirs.tell(delivery.delivery_id)
        await theirs.leave()
        state = await host.database.reader.run(lambda tx: tx.all("SELECT state FROM deliveries"))
        assert state == [("pending",)]


async def test_a_host_that_stops_tells_its_adapters_and_takes_their_last_results(host: AdapterHost) -> None:
    async with an_adapter(host.address, host.tokens.adapter) as adapter:
        await adapter.hello()
        await adapter.submit("hello", key="1")
        delivery = await adapter.next("delivery")
        stopping = asyncio.ensure_future(host.server.stop(8.0))
        drain = await adapter.next("drain")
        assert drain.retry_after.ToMilliseconds() > 0
        await adapter.tell(delivery.delivery_id)
        await adapter.rest()
        await stopping
    state = await host.database.reader.run(lambda tx: tx.all("SELECT state FROM deliveries"))
    assert state == [("acknowledged",)]


async def test_operators_see_the_adapters_that_are_and_were_connected(host: AdapterHost) -> None:
    surface = adapter_pb2.AdapterSurface(surface="telegram", bot_ids=["7"])
    surface.capabilities.markdown = True
    async with an_adapter(host.address, host.tokens.adapter) as gone:
        await gone.hello("telegram", platform="telegram", surfaces=[surface])
        await gone.leave()
    async with (
        an_adapter(host.address, host.tokens.adapter) as here,
        open_channel(host.address, token=host.tokens.operator) as channel,
    ):
        await here.hello()
        await here.submit("hello", key="1")
        await here.next("delivery")
        stub = AdapterServiceStub(channel)
        page = await stub.ListAdapters(adapter_pb2.ListAdaptersRequest(page_size=1))
        assert [(one.adapter_id, one.connected) for one in page.adapters] == [("telegram", False)]
        assert page.adapters[0].surfaces[0] == surface
        page = await stub.ListAdapters(adapter_pb2.ListAdaptersRequest(page_size=5, page_token=page.next_page_token))
        assert [(one.adapter_id, one.connected, one.unacknowledged_count) for one in page.adapters] == [
            ("web_chat", True, 1)
        ]
        assert not page.next_page_token
