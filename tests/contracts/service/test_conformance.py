"""The runner conformance suite on the runners that ask a service: its general behaviours, and those of its words that a
service can be made to play. Each has the service that it needs behind it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from portway.rpc.errors import Reason
from portway.runtime.kit.behaviours import GENERAL, Behaviour
from portway.runtime.kit.host_end import HostEnd, Run
from portway.runtime.kit.subject import Subject as Conforming
from portway.runtime.sdk.types.context import Permissions
from portway.v1 import run_agent_pb2, runtime_pb2_grpc
from tests.contracts.service.conftest import ALLOWED, Bench, Subject
from tests.fakes.model_api import Answer
from tests.fakes.services.api import never

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "echo: hello there"
WAIT = 30


class Configured(HostEnd):
    """A host whose agent of this runner is configured for a service."""

    config: dict[str, Any]

    @asynccontextmanager
    async def run(self, text: str, runner_id: str = "", **options: Any) -> AsyncIterator[Run]:
        given: dict[str, Any] = {"config": self.config, "permissions": ALLOWED, **options}
        async with super().run(text, runner_id, **given) as run:
            yield run


@pytest_asyncio.fixture(loop_scope="module")
async def conforming(bench: Bench, attacked: Subject) -> AsyncIterator[Conforming]:
    host = Configured(bench.channel, attacked.runner_id)
    host.config = attacked.config()
    yield Conforming(attacked.runner_id, host, runtime_pb2_grpc.RuntimeServiceStub(bench.channel))


@pytest.mark.parametrize("behaviour", GENERAL, ids=lambda one: one.name.replace(" ", "-"))
async def test_it_behaves(conforming: Conforming, behaviour: Behaviour) -> None:
    await behaviour.check(conforming)


async def hanging(attacked: Subject) -> None:
    """The next message is answered by half."""
    await attacked.ask()
    whole = attacked.fake.answer(attacked.fake.messages()[-1])
    half = whole.pieces[: len(whole.pieces) // 2]
    attacked.fake.will(Answer((*half, never()), 200, whole.headers))


async def test_crash_fails_its_run_asks_nothing_twice_and_the_next_run_answers(
    attacked: Subject, conforming: Conforming
) -> None:
    await hanging(attacked)
    asked = len(attacked.fake.messages())
    async with attacked.host.run("hello there", attacked.runner_id, **attacked.options()) as run:
        await run.until("message_delta")
        os.kill((await conforming.plugin()).pid, signal.SIGKILL)
        assert (await run.failure()).reason == Reason.RUNNER_CRASHED
    async with asyncio.timeout(WAIT):
        await attacked.fake.client_left.wait()
    assert len(attacked.fake.messages()) == asked + 1
    assert (await attacked.ask()).message.startswith(TEXT)
    assert len(attacked.fake.messages()) == asked + 2


async def test_many_runs_are_under_way_at_once(attacked: Subject) -> None:
    await hanging(attacked)
    async with attacked.host.run("hello there", attacked.runner_id, **attacked.options()) as first:
        await first.until("message_delta")
        runs = await asyncio.gather(*(attacked.ask(f"number {count}", actor=f"p{count}") for count in range(12)))
        assert [run.message.partition("\n")[0] for run in runs] == [f"echo: number {count}" for count in range(12)]
        await first.cancel()
        await first.until_end()
    assert first.error.code == "cancelled"


async def test_a_host_that_takes_little_at_a_time_gets_all_of_it(attacked: Subject) -> None:
    words = " ".join(f"word{number}" for number in range(2000))
    options = {**attacked.options(), "credit": 8 * 1024}
    async with attacked.host.run(words, attacked.runner_id, **options) as run:
        taken = 0
        while (size := await run.read_some()) is not None:
            taken += size
            if taken >= 4 * 1024:
                await run.send(run_agent_pb2.RunInputFrame(credit=run_agent_pb2.RunCredit(bytes=taken)))
                taken = 0
    assert run.kinds[-1] == "run_completed", run.results[-1]
    assert run.message.startswith(f"echo: {words}")


async def test_a_runner_that_is_granted_nothing_answers_and_remembers_nothing(attacked: Subject) -> None:
    for _ in range(2):
        options = {**attacked.options(), "permissions": Permissions(frozenset())}
        run = await attacked.host.finished("hello there", attacked.runner_id, **options)
        assert run.message.startswith(TEXT), run.results
    assert not attacked.things.state


async def test_a_cancel_before_anything_was_said_ends_it(attacked: Subject) -> None:
    attacked.fake.arrived.clear()
    attacked.fake.will(Answer((never(),), 200, {"content-type": "text/event-stream"}))
    async with attacked.host.run("hello there", attacked.runner_id, **attacked.options()) as run:
        async with asyncio.timeout(WAIT), asyncio.TaskGroup() as group:
            # Its calls are answered while it is read.
            group.create_task(run.until_end())
            await attacked.fake.arrived.wait()
            await run.cancel()
    assert run.error.code == "cancelled"
    async with asyncio.timeout(WAIT):
        await attacked.fake.client_left.wait()
