"""Typing signs on an adapter's stream: on while a run that answers there works, off however it ends."""

import asyncio
from pathlib import Path

from portway.server.adapters.frames import Outbound, TypingShown
from portway.server.agents.types import InterruptedPolicy
from portway.server.deliveries.types import Channel
from portway.server.deliveries.typing_signs import Place, TypingSigns
from portway.v1 import adapter_pb2, run_context_pb2, run_pb2
from tests.fakes.adapter_client import AdapterClient, an_adapter
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.callers import make_token
from tests.server.hosting import Hosted, hosted
from tests.server.runs.test_queue_policies import Gate
from tests.waiting import until


def a_surface(typing: bool = True) -> list[adapter_pb2.AdapterSurface]:
    capabilities = run_context_pb2.SurfaceCapabilities(typing=typing)
    return [adapter_pb2.AdapterSurface(surface="web_chat", capabilities=capabilities)]


async def begun(adapter: AdapterClient, conversation: str = "web-1", key: str = "1") -> str:
    """A message that a run works on; answers the run, after its sign was seen."""
    await adapter.submit("hi", key=key, conversation=conversation)
    run_id: str = (await adapter.next("ack")).accepted.run_id
    sign = await adapter.next("typing")
    assert (sign.on, sign.target.conversation_id, sign.target.surface) == (True, conversation, "web_chat")
    assert (sign.target.target, sign.target.launcher_type) == ("ada", "person")
    return run_id


async def goes_off(adapter: AdapterClient) -> None:
    while (await adapter.next("typing")).on:
        # It is shown again while the work goes on.
        pass


async def test_the_sign_is_on_while_the_run_works_and_off_when_it_has_answered(
    served: Hosted, schema_runtime: FakeRuntime
) -> None:
    gate = schema_runtime.script = Gate()
    async with an_adapter(served.address, (await make_token(served, "adapter")).secret) as adapter:
        await adapter.hello(surfaces=a_surface())
        await begun(adapter)
        # Platforms take a sign away by themselves: it comes again without anybody asking.
        again = await adapter.next("typing")
        assert again.on
        gate.open.set()
        await goes_off(adapter)
        await adapter.next("delivery")
        await until(lambda: served.parts.means.signs.count == 0)


async def test_a_cancelled_and_a_failed_run_take_the_sign_away(served: Hosted, schema_runtime: FakeRuntime) -> None:
    async def fail(run: FakeRun) -> None:
        await run.say("half")
        await go_on.wait()
        await run.send(run.result(run_failed={"error": {"code": "runner.error", "message": "It broke."}}))

    go_on = asyncio.Event()
    schema_runtime.script = Gate()
    async with an_adapter(served.address, (await make_token(served, "adapter")).secret) as adapter:
        await adapter.hello(surfaces=a_surface())
        run_id = await begun(adapter)
        await served.runs.CancelRun(run_pb2.CancelRunRequest(run_id=run_id))
        await goes_off(adapter)
        schema_runtime.script = fail
        await begun(adapter, "web-2", "2")
        go_on.set()
        await goes_off(adapter)


async def test_a_surface_without_the_sign_gets_none(served: Hosted, schema_runtime: FakeRuntime) -> None:
    async with an_adapter(served.address, (await make_token(served, "adapter")).secret) as adapter:
        await adapter.hello(surfaces=a_surface(typing=False))
        await adapter.submit("hi", key="1", conversation="web-1")
        delivery = await adapter.next("delivery")
        await adapter.tell(delivery.delivery_id)
        assert not any(frame.HasField("typing") for frame in await adapter.leave())


async def test_who_connects_later_is_shown_what_goes_on_and_after_a_restart_it_is_told_anew(
    tmp_path: Path, schema_runtime: FakeRuntime
) -> None:
    gate = schema_runtime.script = Gate()
    async with hosted(tmp_path, schema_runtime) as served:
        await served.set_agent(on_interrupted=InterruptedPolicy.RETRY)
        token = (await make_token(served, "adapter")).secret
        async with an_adapter(served.address, token) as adapter:
            await adapter.hello(surfaces=a_surface())
            await begun(adapter)
            adapter.cut()
        async with an_adapter(served.address, token) as adapter:
            await adapter.hello(surfaces=a_surface())
            assert (await adapter.next("typing")).on
    async with hosted(tmp_path, schema_runtime) as served, an_adapter(served.address, token) as adapter:
        await adapter.hello(surfaces=a_surface())
        assert (await adapter.next("typing")).on
        gate.open.set()
        await goes_off(adapter)


async def test_an_adapter_that_does_not_read_holds_one_sign_for_each_chat_and_at_most_a_thousand() -> None:
    outbound = Outbound(answers=1, updates=1)
    for number in range(5_000):
        outbound.put_sign(b"%d" % (number % 2_000), number % 3 == 0)
    signs = set()
    for _ in range(1_000):
        frame = await outbound.next()
        assert isinstance(frame, TypingShown)
        signs.add(frame.target)
    assert len(signs) == 1_000
    outbound.close()
    assert await outbound.next() is None


async def test_two_runs_of_one_chat_have_one_sign() -> None:
    class Shower:
        def __init__(self) -> None:
            self.seen: list[bool] = []

        def shows_typing(self, channel: object) -> bool:
            return True

        def show_typing(self, target: bytes, on: bool) -> None:
            self.seen.append(on)

    signs, shower = TypingSigns(), Shower()
    signs.attach(shower)
    place = Place(Channel("w", "web_chat", ""), b"t")
    for step in (signs.begin, signs.begin, signs.end, signs.end):
        step(place)
    assert shower.seen == [True, False]
