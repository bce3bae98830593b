"""Cancelling, deadlines, and runners that do not listen."""

import asyncio
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from portway.rpc.channel import open_channel
from portway.rpc.errors import NotFound, Reason, Unavailable, WrongState
from portway.rpc.status import errors_by_meaning
from portway.server.config import HostLimits
from portway.v1 import run_pb2, run_pull_pb2, runner_service_pb2_grpc
from tests.fakes.runtime_server import FakeRun, FakeRuntime, answer_hello
from tests.server.hosting import Hosted, hosted, text_part
from tests.waiting import until


async def obedient(run: FakeRun) -> None:
    await run.cancelled.wait()
    await run.send(run.result(run_failed={"error": {"code": "cancelled", "message": "as you wish"}}))


async def stubborn(run: FakeRun) -> None:
    while True:
        await run.say("on and on ")
        await asyncio.sleep(0.01)


async def cancel(host: Hosted, run_id: str, reason: str = "enough") -> run_pb2.CancelRunResponse:
    with errors_by_meaning():
        answer: run_pb2.CancelRunResponse = await host.runs.CancelRun(
            run_pb2.CancelRunRequest(run_id=run_id, reason=reason)
        )
    return answer


async def test_cancelling_reaches_the_runner_and_the_receipt_says_that_it_stopped(
    host: Hosted, runtime: FakeRuntime
) -> None:
    runtime.script = obedient
    accepted = await host.submit()
    await until(lambda: bool(runtime.runs))
    answer = await cancel(host, accepted.run_id)

    assert runtime.runs[0].reason == "enough"
    assert answer.run.state == run_pb2.RUN_STATE_CANCELLED and answer.run.error.code == "cancelled"
    assert answer.receipt.complete and answer.receipt.root.state == run_pb2.STOP_STATE_STOPPED
    events = await host.watch(accepted.run_id)
    assert [e.state_changed.state for e in events if e.WhichOneof("kind") == "state_changed"] == [
        run_pb2.RUN_STATE_RUNNING,
        run_pb2.RUN_STATE_CANCELLING,
    ]
    assert [item.kind for item in await host.transcript(accepted.conversation_id)] == ["message", "notice"]
    assert not runtime.recycled


async def test_a_runner_that_does_not_listen_is_fenced_off_and_its_plugin_recycled(
    host: Hosted, runtime: FakeRuntime
) -> None:
    runtime.script = stubborn
    accepted = await host.submit()
    await until(lambda: bool(runtime.runs))
    answer = await cancel(host, accepted.run_id)

    assert answer.run.state == run_pb2.RUN_STATE_CANCELLED
    assert not answer.receipt.complete and answer.receipt.root.state == run_pb2.STOP_STATE_UNREACHABLE
    await until(lambda: runtime.recycled == ["tests/fake"])
    runtime.script = answer_hello
    assert (await host.asked()).state == run_pb2.RUN_STATE_COMPLETED


async def test_a_run_that_has_ended_is_no_error_to_cancel_and_an_unknown_one_is(host: Hosted) -> None:
    run = await host.asked()
    answer = await cancel(host, run.run_id)
    assert answer.receipt.complete and answer.receipt.root.state == run_pb2.STOP_STATE_ALREADY_ENDED
    assert answer.run.state == run_pb2.RUN_STATE_COMPLETED
    with pytest.raises(NotFound):
        await cancel(host, "run_nobody")


async def test_a_run_that_waits_is_cancelled_without_having_begun(host: Hosted, runtime: FakeRuntime) -> None:
    runtime.script = obedient
    first = await host.submit("one", chat="same")
    await until(lambda: bool(runtime.runs))
    second = await host.submit("two", chat="same")
    answer = await cancel(host, second.run_id)
    assert answer.run.state == run_pb2.RUN_STATE_CANCELLED and answer.run.attempt == 0
    await cancel(host, first.run_id)
    runtime.script = answer_hello
    assert (await host.asked("three", chat="same")).state == run_pb2.RUN_STATE_COMPLETED
    assert len(runtime.runs) == 2


async def test_a_run_that_waits_for_the_runtime_can_be_cancelled(tmp_path: Path) -> None:
    nowhere = FakeRuntime(address="127.0.0.1:1", token="pw_service_" + "0" * 32 + "_" + "0" * 64)
    async with hosted(tmp_path, nowhere) as host:
        await host.set_agent()
        accepted = await host.submit()
        await until(lambda: host.parts.dispatcher.active_count == 1)
        assert (await cancel(host, accepted.run_id)).run.state == run_pb2.RUN_STATE_CANCELLED


async def test_without_a_runtime_a_run_fails_after_the_host_s_patience(tmp_path: Path) -> None:
    nowhere = FakeRuntime(address="127.0.0.1:1", token="pw_service_" + "0" * 32 + "_" + "0" * 64)
    async with hosted(tmp_path, nowhere, limits=HostLimits(runner_patience=0.05)) as host:
        await host.set_agent()
        run = await host.asked()
        assert run.error.code == "runner.unavailable" and run.error.retryable
        assert "portway status" in run.error.message


async def test_a_run_past_its_deadline_is_told_to_stop_and_fails_as_a_timeout(
    host: Hosted, runtime: FakeRuntime
) -> None:
    runtime.script = obedient
    await host.set_agent(timeout_seconds=0.1)
    run = await host.asked()
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.error.code == "runner.timeout" and run.error.retryable
    runtime.script = stubborn
    assert (await host.asked()).error.code == "runner.timeout"


async def test_what_completes_in_spite_of_a_cancel_is_an_answer(host: Hosted, runtime: FakeRuntime) -> None:
    async def already_done(run: FakeRun) -> None:
        await run.cancelled.wait()
        await run.answer("here it is")

    runtime.script = already_done
    accepted = await host.submit()
    await until(lambda: bool(runtime.runs))
    assert (await cancel(host, accepted.run_id)).run.state == run_pb2.RUN_STATE_COMPLETED
    assert [item.text for item in await host.transcript(accepted.conversation_id)] == ["hi", "here it is"]


async def test_the_token_of_a_run_is_dead_when_the_run_has_ended(host: Hosted, runtime: FakeRuntime) -> None:
    run = await host.asked()
    token = runtime.runs[0].start.run_token
    async with host.runner(token) as calls:
        with pytest.raises(WrongState) as caught, errors_by_meaning():
            await calls.GetPrompt(run_pull_pb2.GetPromptRequest())
    assert caught.value.reason == Reason.RUN_FINISHED
    assert run.run_id in caught.value.message


async def test_a_host_that_stops_waits_for_what_executes(tmp_path: Path, runtime: FakeRuntime) -> None:
    finish = asyncio.Event()

    async def slow(run: FakeRun) -> None:
        await finish.wait()
        await run.answer("in time")

    runtime.script = slow
    async with hosted(tmp_path, runtime) as host:
        await host.set_agent()
        accepted = await host.submit()
        await until(lambda: bool(runtime.runs))
        finish.set()
    async with hosted(tmp_path, runtime) as host:
        assert (await host.run(accepted.run_id)).state == run_pb2.RUN_STATE_COMPLETED


async def test_what_does_not_end_while_the_host_stops_is_settled_by_the_next_start(
    tmp_path: Path, runtime: FakeRuntime
) -> None:
    runtime.script = stubborn
    async with hosted(tmp_path, runtime, limits=HostLimits(drain=0.05)) as host:
        await host.set_agent()
        accepted = await host.submit()
        waiting = await host.submit("next")
        await until(lambda: bool(runtime.runs))
    runtime.script = answer_hello
    async with hosted(tmp_path, runtime) as host:
        run = await host.ended(accepted.run_id)
        assert run.state == run_pb2.RUN_STATE_FAILED and run.error.code == "host.restarted"
        assert (await host.ended(waiting.run_id)).state == run_pb2.RUN_STATE_COMPLETED
        kinds = [(item.kind, item.text) for item in await host.transcript(accepted.conversation_id)]
        assert [kind for kind, _ in kinds] == ["message", "message", "notice", "message"]
    assert runtime.epochs == ["1", "2"]


async def test_an_interrupted_run_is_begun_again_where_the_agent_says_so(tmp_path: Path, runtime: FakeRuntime) -> None:
    runtime.script = stubborn
    async with hosted(tmp_path, runtime, limits=HostLimits(drain=0.05)) as host:
        await host.set_agent(on_interrupted="retry")
        accepted = await host.submit()
        await until(lambda: bool(runtime.runs))
    runtime.script = answer_hello
    async with hosted(tmp_path, runtime) as host:
        events = await host.watch(accepted.run_id)
        run = await host.run(accepted.run_id)
        assert run.state == run_pb2.RUN_STATE_COMPLETED and run.attempt == 2
        assert [e.reset.attempt for e in events if e.WhichOneof("kind") == "reset"] == [2]
        assert [item.text for item in await host.transcript(accepted.conversation_id)] == ["hi", "hello, hi"]
    first, second = (run.context for run in runtime.runs)
    # What was frozen with the first attempt holds for the second.
    assert first.permissions == second.permissions and first.resources == second.resources
    assert first.config == second.config and second.attempt == 2


async def test_an_interrupted_run_is_begun_three_times_at_most(tmp_path: Path, runtime: FakeRuntime) -> None:
    runtime.script = stubborn
    run_id = ""
    for start in range(4):
        async with hosted(tmp_path, runtime, limits=HostLimits(drain=0.05)) as host:
            if not run_id:
                await host.set_agent(on_interrupted="retry")
                run_id = (await host.submit()).run_id
            if start < 3:
                await until(lambda start=start: len(runtime.runs) == start + 1)  # type: ignore[misc]
                continue
            run = await host.ended(run_id)
            assert run.error.code == "host.restarted" and run.attempt == 3


async def test_steering_a_run_that_has_ended_is_refused(host: Hosted) -> None:
    run = await host.asked()
    request = run_pb2.SteerRunRequest(run_id=run.run_id, parts=[text_part("more")], request_id="r1")
    with pytest.raises(WrongState) as caught, errors_by_meaning():
        await host.runs.SteerRun(request)
    assert caught.value.reason == Reason.RUN_FINISHED


async def test_while_it_stops_the_host_says_so_and_its_runs_may_still_ask(tmp_path: Path, runtime: FakeRuntime) -> None:
    asked = asyncio.Event()
    found: list[str] = []

    async def asks_at_the_end(run: FakeRun) -> None:
        await asked.wait()
        async with open_channel(hosts[0].address, token=run.start.run_token) as channel:
            stub = runner_service_pb2_grpc.RunnerServiceStub(channel)
            with errors_by_meaning():
                page = await stub.PageHistory(run_pull_pb2.PageHistoryRequest())
            found.extend(item.content for item in page.items)
            health = health_pb2_grpc.HealthStub(channel)
            state = (await health.Check(health_pb2.HealthCheckRequest())).status
            found.append(health_pb2.HealthCheckResponse.ServingStatus.Name(state))
        await run.answer("still here")

    hosts: list[Hosted] = []
    runtime.script = asks_at_the_end
    async with hosted(tmp_path, runtime) as host:
        hosts.append(host)
        await host.set_agent()
        accepted = await host.submit()
        await until(lambda: bool(runtime.runs))
        host.host.server.begin_draining()
        with pytest.raises(Unavailable):
            await host.submit("too late")
        asked.set()
    assert found == ["hi", "NOT_SERVING"]
    async with hosted(tmp_path, runtime) as host:
        assert (await host.run(accepted.run_id)).state == run_pb2.RUN_STATE_COMPLETED
