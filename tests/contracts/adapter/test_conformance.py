"""What every adapter promises, whatever goes wrong: each message that it takes is accepted once, each answer has one
effect, and it comes back by itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.v1 import adapter_pb2, delivery_pb2
from tests.contracts.adapter.under_test import CHAT, STARTERS, AdapterUnderTest
from tests.fakes.chat_agent import Script
from tests.fakes.chat_host import ChatHost, chat_host
from tests.waiting import until


@pytest.fixture
async def host() -> AsyncIterator[ChatHost]:
    async with chat_host(Script()) as running:
        yield running


@pytest.fixture(params=list(STARTERS.values()), ids=list(STARTERS))
async def adapter(request: pytest.FixtureRequest, host: ChatHost, tmp_path: Path) -> AsyncIterator[AdapterUnderTest]:
    async with request.param(host, tmp_path) as running:
        await running.connected()
        yield running


def all_delivered(host: ChatHost) -> bool:
    acknowledged = delivery_pb2.DELIVERY_STATE_ACKNOWLEDGED
    return bool(host.store.deliveries) and all(
        delivery.state == acknowledged for delivery in host.store.deliveries.values()
    )


async def settled(host: ChatHost, adapter: AdapterUnderTest, count: int) -> None:
    """Everything is answered, delivered, and shown."""
    await until(lambda: len(host.store.runs) == count and all(not run.open for run in host.store.runs.values()))
    await until(lambda: all_delivered(host))
    await until(lambda: len(adapter.shown()) >= count)


async def test_a_message_is_answered_once(host: ChatHost, adapter: AdapterUnderTest) -> None:
    await adapter.say("hello", "key-00001")
    await settled(host, adapter, 1)
    assert adapter.shown() == ["You said: hello"]


async def test_it_says_hello_with_its_surface_and_what_it_can_do(host: ChatHost, adapter: AdapterUnderTest) -> None:
    current = host.connections.current
    assert current is not None
    assert [one.surface for one in current.hello.surfaces] == [adapter.surface]
    assert current.hello.surfaces[0].capabilities.streaming
    assert current.hello.protocol_version == 1
    assert current.hello.max_unacknowledged > 0


async def test_messages_and_answers_keep_their_order(host: ChatHost, adapter: AdapterUnderTest) -> None:
    await asyncio.gather(*(adapter.say(f"message {number}", f"key-0000{number}") for number in range(8)))
    await settled(host, adapter, 8)
    said = [item.content for item in host.store.items[CHAT] if item.content.startswith("message")]
    assert said == [f"message {number}" for number in range(8)]
    assert sorted(adapter.shown()) == sorted(f"You said: {text}" for text in said)


async def test_an_answer_that_was_lost_does_not_say_the_message_twice(
    host: ChatHost, adapter: AdapterUnderTest
) -> None:
    host.faults.lose_acks = 1
    await adapter.say("hello", "key-00001")
    await settled(host, adapter, 1)
    assert len(host.store.events) == 1
    assert adapter.shown() == ["You said: hello"]


async def test_a_delivery_that_comes_twice_has_one_effect(host: ChatHost, adapter: AdapterUnderTest) -> None:
    host.faults.double_deliveries = True
    for number in range(3):
        await adapter.say(f"m{number}", f"key-0000{number}")
    await settled(host, adapter, 3)
    assert sorted(adapter.shown()) == ["You said: m0", "You said: m1", "You said: m2"]


async def test_a_delivery_whose_result_was_lost_has_one_effect(host: ChatHost, adapter: AdapterUnderTest) -> None:
    await adapter.say("hello", "key-00001")
    await settled(host, adapter, 1)
    for delivery in host.store.deliveries.values():
        delivery.state = delivery_pb2.DELIVERY_STATE_PENDING
    current = host.connections.current
    assert current is not None
    # The host takes what it had not heard from the next hello, before it sends anything again.
    current.given.clear()
    host.connections.deliver_pending()
    await until(lambda: all_delivered(host))
    assert adapter.shown() == ["You said: hello"]


async def test_results_that_may_be_lost_are_told_again_with_the_next_hello(
    host: ChatHost, adapter: AdapterUnderTest
) -> None:
    await adapter.say("hello", "key-00001")
    await settled(host, adapter, 1)
    before = len(host.connections.all)
    host.cut()
    await until(lambda: len(host.connections.all) > before)
    told = host.connections.all[-1].hello.recent_results
    assert [result.delivery_id for result in told] == list(host.store.deliveries)


async def test_a_connection_that_breaks_in_the_middle_costs_nothing(host: ChatHost, adapter: AdapterUnderTest) -> None:
    reached, go_on = host.script.hold("middle")
    await adapter.say("one two three four five six seven eight nine ten", "key-00001")
    await reached.wait()
    await until(lambda: adapter.writing() != "")
    begun = adapter.writing()
    host.cut()
    await until(lambda: len(host.connections.all) == 2)
    go_on.set()
    await settled(host, adapter, 1)
    assert adapter.shown() == ["You said: one two three four five six seven eight nine ten"]
    assert adapter.shown()[0].startswith(begun)


@pytest.mark.parametrize("point", ["begin", "middle", "end", "deliver"])
async def test_a_host_that_is_killed_and_comes_back_answers_once(
    host: ChatHost, adapter: AdapterUnderTest, point: str
) -> None:
    reached, go_on = host.script.hold(point)
    await adapter.say("one two three four five six", "key-00001")
    await reached.wait()
    await host.kill()
    go_on.set()
    host.script.gates.clear()
    await host.start()
    await settled(host, adapter, 1)
    await adapter.connected()
    assert adapter.shown() == ["You said: one two three four five six"]
    # What was being written is finished too, or gone: nothing is left half.
    await until(lambda: adapter.writing() in ("", adapter.shown()[0]))


async def test_what_is_said_while_the_host_is_away_is_accepted_when_it_is_back(
    host: ChatHost, adapter: AdapterUnderTest
) -> None:
    await host.kill()
    saying = [asyncio.ensure_future(adapter.say(f"m{number}", f"key-0000{number}")) for number in range(3)]
    await host.start()
    await asyncio.gather(*saying)
    await settled(host, adapter, 3)
    said = [item.content for item in host.store.items[CHAT] if item.content.startswith("m")]
    assert said == ["m0", "m1", "m2"]


async def test_a_host_that_stops_politely_is_left_and_found_again(host: ChatHost, adapter: AdapterUnderTest) -> None:
    await adapter.say("before", "key-00001")
    await settled(host, adapter, 1)
    host.connections.drain()
    await until(lambda: len(host.connections.all) == 2)
    assert host.connections.all[0].ended.is_set()
    await adapter.say("after", "key-00002")
    await settled(host, adapter, 2)
    assert sorted(adapter.shown()) == ["You said: after", "You said: before"]


async def test_what_was_replaced_ends_and_says_why(host: ChatHost, adapter: AdapterUnderTest) -> None:
    current = host.connections.current
    assert current is not None
    current.send(replaced=adapter_pb2.AdapterReplaced(generation=99))
    assert "took over" in await adapter.over()
    assert len(host.connections.all) == 1


async def test_what_the_host_refuses_is_told_to_whoever_said_it(host: ChatHost, adapter: AdapterUnderTest) -> None:
    refusal = adapter_pb2.AdapterEventAck()
    refusal.error.code = "NO_BINDING"
    refusal.error.message = "no agent is bound to this conversation; make a binding"
    host.faults.refuse_events.append(refusal)
    with pytest.raises(Exception, match="no agent is bound"):
        await adapter.say("hello", "key-00001")
    await adapter.say("hello again", "key-00002")
    await settled(host, adapter, 1)
    assert adapter.shown() == ["You said: hello again"]
