"""Runs over the wire: what a run says reaches the host as it was said, and nothing that a runner does hurts another."""

import asyncio

import pytest

from portway.rpc.client_stream import send
from portway.rpc.errors import InvalidInput, NotFound, Reason, Unavailable, WrongState
from portway.runtime.sdk import RunInput, SteeringMessage
from portway.runtime.sdk.testing.things import Things, in_turn, says, transcript
from portway.v1 import run_agent_pb2 as pb
from portway.v1 import run_pull_pb2, runtime_pb2
from tests.runtime.conftest import LiveRuntime
from tests.runtime.host_end import NEIGHBOUR, Run
from tests.waiting import PATIENCE


async def test_a_run_answers_and_ends_with_one_terminal_result(runtime: LiveRuntime) -> None:
    run = await runtime.host.finished("ok hello")
    assert run.kinds == ["message_completed", "run_completed"]
    assert run.message == "hello"
    assert [result.sequence for result in run.results] == [1, 2]
    assert {result.run_id for result in run.results} == {"run_1"}


async def test_a_runner_that_returns_has_completed(runtime: LiveRuntime) -> None:
    assert (await runtime.host.finished("returns hello")).kinds == ["message_completed", "run_completed"]


async def test_deltas_arrive_in_order_before_the_message(runtime: LiveRuntime) -> None:
    run = await runtime.host.finished("streamed a b c")
    assert run.kinds == ["message_delta"] * 3 + ["message_completed", "run_completed"]
    assert [result.message_delta.text for result in run.results[:3]] == ["a", "b", "c"]


async def test_an_empty_run_says_nothing_but_its_end(runtime: LiveRuntime) -> None:
    assert (await runtime.host.finished("empty")).kinds == ["run_completed"]


@pytest.mark.parametrize(
    ("text", "code", "retryable"),
    [
        ("malformed", "runner.protocol", False),
        ("wrong_field", "runner.protocol", False),
        ("oversize", "runner.protocol", False),
        ("fail", "harness.cli_missing", True),
        ("raises", "runner.error", False),
        ("not_granted", "runner.error", False),
    ],
)
async def test_a_failure_has_a_published_code_and_the_next_run_is_healthy(
    runtime: LiveRuntime, text: str, code: str, retryable: bool
) -> None:
    run = await runtime.host.finished(text)
    assert (run.error.code, run.error.retryable) == (code, retryable)
    assert run.error.message
    assert "_secret" not in run.error.message
    assert (await runtime.host.finished("ok again")).message == "again"


async def test_a_runner_may_replace_a_result_that_was_refused(runtime: LiveRuntime) -> None:
    run = await runtime.host.finished("oversize_caught")
    assert run.message == "said something shorter"
    assert [result.sequence for result in run.results] == [1, 2]


async def test_nothing_follows_a_terminal_result(runtime: LiveRuntime) -> None:
    assert (await runtime.host.finished("after_terminal")).kinds == ["run_completed"]


async def test_a_hundred_thousand_deltas_arrive_packed_and_none_is_lost(runtime: LiveRuntime) -> None:
    run = await runtime.host.finished("flood 100000")
    assert run.kinds[-1] == "run_completed"
    texts = [result.message_delta.text for result in run.results[:-1]]
    assert texts == [f"{number} " for number in range(100_000)]
    assert [result.sequence for result in run.results] == list(range(1, 100_002))
    assert run.message_count < run.frame_count / 20


async def test_cancel_reaches_a_runner_that_hangs(runtime: LiveRuntime) -> None:
    async with runtime.host.run("hang") as run:
        await run.until("message_delta")
        await run.cancel("enough")
        await run.until_end()
    assert run.error.code == "cancelled"
    assert run.error.message == "enough"


async def test_a_cancelled_runner_may_still_say_what_it_has(runtime: LiveRuntime) -> None:
    async with runtime.host.run("tidy") as run:
        await run.until("message_delta")
        await run.cancel()
        await run.until_end()
    assert run.message == "stopped half-way"
    assert run.error.code == "cancelled"


async def test_a_call_that_is_cancelled_ends_the_run_in_the_plugin(runtime: LiveRuntime) -> None:
    async with runtime.host.run("hang") as run:
        await run.until("message_delta")
    await _until_idle(runtime)
    assert (await runtime.host.finished("ok healthy")).message == "healthy"


async def test_a_stubborn_runner_is_recycled_and_its_neighbours_in_the_process_finish(runtime: LiveRuntime) -> None:
    async with runtime.host.run("steer") as neighbour:
        await neighbour.until("message_delta")
        async with runtime.host.run("stubborn") as run:
            await run.until("message_delta")
            await run.cancel()
            generation = int(dict(await run.call.initial_metadata())["portway-plugin-generation"])
        before = await _plugin(runtime)
        request = runtime_pb2.RecyclePluginRequest(plugin_id="test/behave", generation=generation)
        await runtime.stub.RecyclePlugin(request)
        after = await runtime.host.finished("about")
        assert after.message.split()[0] != str(before.pid)
        await _tell(neighbour, "still here")
        await neighbour.until_end()
        assert neighbour.message == "still here"
    assert (await _plugin(runtime)).generation == generation + 1


async def test_a_recycle_of_an_older_process_changes_nothing(runtime: LiveRuntime) -> None:
    await runtime.host.finished("ok")
    before = await _plugin(runtime)
    await runtime.stub.RecyclePlugin(runtime_pb2.RecyclePluginRequest(plugin_id="test/behave", generation=99))
    assert (await _plugin(runtime)).pid == before.pid


async def test_a_process_that_answers_no_ping_is_killed_at_once(runtime: LiveRuntime) -> None:
    async with runtime.host.run("block") as run:
        await run.until("message_delta")
        await _until_printed(runtime, "blocked")
        await runtime.stub.RecyclePlugin(runtime_pb2.RecyclePluginRequest(plugin_id="test/behave"))
        failure = await run.failure()
    assert failure.reason == Reason.RUNNER_CRASHED
    assert (await runtime.host.finished("ok back")).message == "back"


@pytest.mark.parametrize(("text", "how"), [("crash", "signal 9"), ("leave", "code 7")])
async def test_a_crash_fails_the_plugins_runs_and_touches_no_other(runtime: LiveRuntime, text: str, how: str) -> None:
    async with runtime.host.run("", NEIGHBOUR) as neighbour, runtime.host.run("hang") as second:
        await neighbour.until("message_delta")
        await second.until("message_delta")
        async with runtime.host.run(text) as run:
            failure = await run.failure()
        assert isinstance(failure, Unavailable)
        assert failure.reason == Reason.RUNNER_CRASHED
        assert how in failure.message
        assert (await second.failure()).reason == Reason.RUNNER_CRASHED
        assert (await runtime.host.finished("ok back")).message == "back"
        await _tell(neighbour, "untouched")
        await neighbour.until_end()
        assert neighbour.message == "untouched"
    assert (await _plugin(runtime)).restart_count == 1


async def test_crashes_without_good_work_are_followed_by_longer_and_longer_pauses(runtime: LiveRuntime) -> None:
    for _ in range(2):
        async with runtime.host.run("crash") as run:
            await run.failure()
    plugin = await _plugin(runtime)
    assert plugin.state == runtime_pb2.PLUGIN_STATE_BACKING_OFF
    assert "signal 9" in plugin.reason
    assert (await runtime.host.finished("ok patient")).message == "patient"


async def test_an_unknown_runner_is_not_found(runtime: LiveRuntime) -> None:
    for runner_id in ("plugin:test/behave/other", "plugin:nobody/nothing/default", "behave"):
        async with runtime.host.run("ok", runner_id) as run:
            assert isinstance(await run.failure(), NotFound)


async def test_a_stream_that_does_not_begin_with_a_start_is_refused(runtime: LiveRuntime) -> None:
    cancel = pb.RunAgentRequest(frames=[pb.RunInputFrame(cancel=pb.RunCancel(reason="no"))])
    for first in (cancel.SerializeToString(), b"", b"\xff\xff\xff"):
        async with runtime.host.run("", first=[first]) as run:
            failure = await run.failure()
        assert isinstance(failure, InvalidInput)


async def test_a_second_start_fails_the_run(runtime: LiveRuntime) -> None:
    async with runtime.host.run("hang") as run:
        await run.until("message_delta")
        await run.send(pb.RunInputFrame(start=pb.RunStart(runner_id="plugin:test/behave/default")))
        failure = await run.failure()
    assert failure.reason == Reason.UNEXPECTED_FRAME


async def test_frames_that_cannot_be_read_fail_the_run_and_nothing_else(runtime: LiveRuntime) -> None:
    async with runtime.host.run("hang") as run:
        await run.until("message_delta")
        await send(run.call, b"\xff\xff\xff\xff")
        assert isinstance(await run.failure(), InvalidInput)
    assert (await runtime.host.finished("ok healthy")).message == "healthy"


async def test_a_replaced_host_is_refused_and_its_runs_end(runtime: LiveRuntime) -> None:
    async with runtime.host.run("hang", epoch=4) as old:
        await old.until("message_delta")
        assert (await runtime.host.finished("ok new", epoch=5)).message == "new"
        failure = await old.failure()
        assert isinstance(failure, WrongState)
        assert failure.reason == Reason.STALE_HOST
    async with runtime.host.run("ok", epoch=4) as run:
        assert (await run.failure()).reason == Reason.STALE_HOST
    status = await runtime.stub.GetRuntimeStatus(runtime_pb2.GetRuntimeStatusRequest())
    assert status.host_epoch == 5


async def test_more_runs_than_allowed_are_refused_at_once(runtime: LiveRuntime) -> None:
    async with asyncio.TaskGroup() as group:
        opened = [runtime.host.run("hang") for _ in range(64)]
        runs = [await one.__aenter__() for one in opened]
        for run in runs:
            group.create_task(run.until("message_delta"))
    async with runtime.host.run("ok") as one_more:
        failure = await one_more.failure()
    assert failure.reason == Reason.OVERLOADED
    assert failure.retry_after
    for one in opened:
        await one.__aexit__(None, None, None)


async def test_the_worker_sends_no_more_than_it_has_credit_for(runtime: LiveRuntime) -> None:
    async with runtime.host.run("flood 20000", credit=100_000) as run:
        size = 0
        while size < 100_000:
            raw = await run.call.read()
            size += len(raw)
        waiting = asyncio.ensure_future(run.call.read())
        await runtime.host.finished("flood 1000")
        assert not waiting.done(), "the worker sent more than it had credit for"
        await run.send(pb.RunInputFrame(credit=pb.RunCredit(bytes=100_000_000)))
        assert await waiting
        await run.until_end()
    assert run.results[-1].sequence == 20_001


async def test_calls_are_answered_on_the_runs_own_stream(runtime: LiveRuntime) -> None:
    things = Things(history=transcript("one", "two", "three"))
    assert (await runtime.host.finished("history 2", things=things)).message == "two|three"


async def test_hundreds_of_calls_are_under_way_at_once(runtime: LiveRuntime) -> None:
    things = Things(history=transcript("one"))
    assert (await runtime.host.finished("many_calls 1000", things=things)).message == "1000"


async def test_a_model_streams_through_the_run(runtime: LiveRuntime) -> None:
    run = await runtime.host.finished("model hi", things=Things(model=in_turn(says("a streamed answer"))))
    assert [result.message_delta.text for result in run.results[:-1]] == ["a ", "streamed ", "answer"]


async def test_state_storage_and_files_go_through_the_host(runtime: LiveRuntime) -> None:
    assert (await runtime.host.finished("state blue")).message == "1 {'text': 'blue'} None"
    assert (await runtime.host.finished("storage 0123456789")).message == "True"
    assert (await runtime.host.finished("artifact 0123456789")).message == "long.txt 1000000 True"


async def test_steering_reaches_the_run(runtime: LiveRuntime) -> None:
    async with runtime.host.run("steer") as run:
        await run.until("message_delta")
        await _tell(run, "turn left")
        await run.until_end()
    assert run.message == "turn left"


async def test_the_context_arrives_whole(runtime: LiveRuntime) -> None:
    run = await runtime.host.finished("about", config={"colour": "blue"})
    assert run.message.split()[1:] == ["run_1", "1", "blue"]


async def _plugin(runtime: LiveRuntime) -> runtime_pb2.Plugin:
    return (await runtime.stub.GetPlugin(runtime_pb2.GetPluginRequest(plugin_id="test/behave"))).plugin


async def _until_idle(runtime: LiveRuntime) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await _plugin(runtime)).run_count:  # noqa: ASYNC110 - a status is looked at, nothing tells of it
            await asyncio.sleep(0.001)


async def _until_printed(runtime: LiveRuntime, text: str) -> None:
    async with asyncio.timeout(PATIENCE):
        async for line in runtime.operator.TailPluginLogs(runtime_pb2.TailPluginLogsRequest(plugin_id="test/behave")):
            if line.line == text:
                return


async def _tell(run: Run, text: str) -> None:
    """A message arrives for the run: the host keeps it, and tells the run that there is one."""
    run.host.things.steering.append(SteeringMessage("str_1", input=RunInput(text)))
    await run.send(pb.RunInputFrame(steer=run_pull_pb2.SteeringMessage(steering_id="str_1")))
