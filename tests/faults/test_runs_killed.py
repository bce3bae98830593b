"""The host is killed at exact moments of a run: the runtime that the test plays says when.

After the next start each event has exactly one final message, ledgers have no gaps, and commands ran once.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from portway.rpc.errors import PortwayError
from portway.v1 import process_pb2, run_pb2, run_pull_pb2, run_result_pb2
from tests.fakes.box_server import HOLD, FakeBox, serve_fake_box
from tests.fakes.runtime_server import FakeRun, FakeRuntime, Script, answer_hello, serve_fake_runtime
from tests.faults.host_process import HostProcess, ended, said, serving, submit
from tests.waiting import until

COMPLETED = run_pb2.RUN_STATE_COMPLETED


async def never() -> None:
    await asyncio.Event().wait()


async def has_begun(run: FakeRun) -> None:
    await never()


async def has_said_some(run: FakeRun) -> None:
    for number in range(50):
        await run.say(f"word {number} ")
    await never()


async def has_called_something(run: FakeRun) -> None:
    request = run_pull_pb2.SetStateRequest(scope=run_result_pb2.STATE_SCOPE_CONVERSATION, key="k", value_json="1")
    await run.ask("set_state", request)
    await never()


async def has_completed(run: FakeRun) -> None:
    await answer_hello(run)


@asynccontextmanager
async def a_host(
    folder: Path, box: FakeBox | None = None, interrupted: str = "RETRY"
) -> AsyncIterator[tuple[HostProcess, FakeRuntime]]:
    async with serve_fake_runtime(FakeRuntime()) as runtime:
        process = HostProcess(folder, runtime, box, interrupted)
        async with serving(process):
            yield process, runtime


@pytest.mark.parametrize("moment", [has_begun, has_said_some, has_called_something, has_completed])
async def test_killed_when_the_runner(tmp_path: Path, moment: Script) -> None:
    reached = asyncio.Event()

    async def first_attempt(run: FakeRun) -> None:
        if moment is not has_called_something and moment is not has_completed:
            reached.set()
        playing = asyncio.ensure_future(moment(run))
        if moment is has_called_something:
            await until(lambda: run.last_call == 1)
            reached.set()
        await playing
        reached.set()

    async with a_host(tmp_path) as (process, runtime):
        runtime.script = first_attempt
        async with process.client() as host:
            accepted = await submit(host, "Ada", "k1", "chat")
        await reached.wait()
        await process.kill()
        runtime.script = answer_hello
        await process.start()
        run = await ended(process, accepted.run_id)
        assert run.state == COMPLETED, run
        assert await said(process, accepted.conversation_id) == [("message", "hello, Ada")]
        async with process.client() as host:
            events = [event async for event in host.runs.watch(run.run_id)]
            again = await submit(host, "Ada", "k1", "chat")
        assert [event.sequence for event in events if event.sequence] == list(range(1, run.last_sequence + 1))
        assert again.duplicate and again.run_id == accepted.run_id


async def test_a_run_that_may_not_be_begun_again_ends_with_one_notice(tmp_path: Path) -> None:
    async with a_host(tmp_path, interrupted="FAIL") as (process, runtime):
        runtime.script = has_said_some
        async with process.client() as host:
            accepted = await submit(host, "Ada", "k1", "chat")
        await until(lambda: bool(runtime.runs))
        await process.restart()
        run = await ended(process, accepted.run_id)
        assert run.error.code == "host.restarted"
        ((kind, text),) = await said(process, accepted.conversation_id)
        assert kind == "notice" and "interrupted" in text
        await process.restart()
        assert len(await said(process, accepted.conversation_id)) == 1


async def test_a_cancel_that_the_host_did_not_live_to_see_is_honoured(tmp_path: Path) -> None:
    async with a_host(tmp_path) as (process, runtime):
        runtime.script = has_begun
        async with process.client() as host:
            accepted = await submit(host, "Ada", "k1", "chat")
            await until(lambda: bool(runtime.runs))
            cancelling = asyncio.create_task(host.runs.cancel(accepted.run_id))
            await runtime.runs[0].cancelled.wait()
            await process.kill()
            with pytest.raises(PortwayError):
                await cancelling
        await process.start()
        assert (await ended(process, accepted.run_id)).state == run_pb2.RUN_STATE_CANCELLED
        assert len(runtime.runs) == 1


async def test_what_waits_is_run_in_its_order_after_any_number_of_kills(tmp_path: Path) -> None:
    async with a_host(tmp_path) as (process, runtime):
        runtime.script = has_begun
        async with process.client() as host:
            accepted = [await submit(host, f"message {n}", f"k{n}", "one chat") for n in range(10)]
        await process.restart()
        await until(lambda: len(runtime.runs) == 2)
        runtime.script = answer_hello
        await process.restart()
        for one in accepted:
            assert (await ended(process, one.run_id)).state == COMPLETED
        texts = [text for _, text in await said(process, accepted[0].conversation_id)]
        assert texts == [f"hello, message {n}" for n in range(10)]


async def test_a_command_runs_once_when_the_host_is_killed_while_it_runs(tmp_path: Path) -> None:
    box = FakeBox()
    status = process_pb2.EXIT_STATUS_COMPLETED
    box.will_run(HOLD, process_pb2.ExecOnceResponse(stdout=b"held", exit=process_pb2.Exit(status=status, exit_code=0)))

    async def calls(run: FakeRun) -> None:
        request = run_pull_pb2.RunnerServiceCallToolRequest(name="exec", call_id="c1")
        request.arguments["command"] = HOLD
        result = (await run.ask_all("call_tool", request))[-1].call_tool.result
        await run.answer(result.text)

    async with serve_fake_box(box), a_host(tmp_path, box) as (process, runtime):
        runtime.script = calls
        async with process.client() as host:
            accepted = await submit(host, "do it", "k1", "chat")
        await box.running.wait()
        await process.kill()
        box.release.set()
        await process.start()
        run = await ended(process, accepted.run_id)
        assert run.state == COMPLETED and run.attempt == 2, run
        ((kind, text),) = await said(process, accepted.conversation_id)
        assert kind == "message" and "held" in text
    assert box.ran == [HOLD]


async def test_a_command_whose_result_is_lost_for_good_is_told_of_and_not_repeated(tmp_path: Path) -> None:
    box = FakeBox()
    box.will_run(HOLD, process_pb2.ExecOnceResponse())

    async def calls(run: FakeRun) -> None:
        request = run_pull_pb2.RunnerServiceCallToolRequest(name="exec", call_id="c1")
        request.arguments["command"] = HOLD
        answer = await run.ask("call_tool", request)
        await run.send(run.result(run_failed={"error": {"code": "tool.effect_unknown", "message": answer.message}}))

    async with serve_fake_box(box), a_host(tmp_path, box) as (process, runtime):
        runtime.script = calls
        async with process.client() as host:
            accepted = await submit(host, "do it", "k1", "chat")
        await box.running.wait()
        await process.kill()
        box.forget_effects()
        box.release.set()
        await process.start()
        run = await ended(process, accepted.run_id)
        assert run.error.code == "tool.effect_unknown", run
        ((kind, text),) = await said(process, accepted.conversation_id)
        assert kind == "notice" and "may have run" in text
    assert box.ran == [HOLD]


async def test_killed_at_random_nothing_is_lost_doubled_or_left_open(tmp_path: Path) -> None:
    chance = random.Random(20260721)

    async def talks(run: FakeRun) -> None:
        for number in range(chance.randrange(5)):
            await run.say(f"{number} ")
            await asyncio.sleep(chance.random() * 0.02)
        await answer_hello(run)

    async with a_host(tmp_path) as (process, runtime):
        runtime.script = talks
        sending = [asyncio.create_task(_until_accepted(process, number)) for number in range(60)]
        for _ in range(6):
            await asyncio.sleep(chance.random() * 0.4)
            await process.restart()
        run_ids = await asyncio.gather(*sending)
        runs = [await ended(process, run_id) for run_id in run_ids]
        completed = [run for run in runs if run.state == COMPLETED]
        # Whatever was cut off three times is given up; nearly everything must have worked all the same.
        assert len(completed) >= 55, [str(run.error) for run in runs if run.error.code]
        by_conversation: dict[str, int] = {}
        for run in runs:
            by_conversation[run.conversation_id] = by_conversation.get(run.conversation_id, 0) + 1
        for conversation_id, count in by_conversation.items():
            messages = await said(process, conversation_id)
            assert len(messages) == count and len(set(messages)) == len(messages), messages
        assert len(set(run_ids)) == 60
        async with process.client() as host:
            assert not (await host.status()).queued_run_count and not (await host.status()).active_run_count


async def _until_accepted(process: HostProcess, number: int) -> str:
    while True:
        try:
            async with process.client() as host:
                return (await submit(host, f"message {number}", f"k{number}", f"chat {number % 10}")).run_id
        except (PortwayError, OSError, ValueError):
            await asyncio.sleep(0.05)
