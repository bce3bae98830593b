"""Tools through the host: what may not happen twice does not, whatever breaks in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from portway.rpc.errors import Reason, Unavailable
from portway.server.agents.types import BoxPolicy, InterruptedPolicy
from portway.server.config import HostLimits
from portway.v1 import process_pb2, run_pb2, run_pull_pb2
from tests.fakes.box_server import HOLD, FakeBox, serve_fake_box
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.hosting import Hosted, hosted
from tests.server.playing import played
from tests.waiting import until

EXEC = BoxPolicy(tools=("*",))


@asynccontextmanager
async def with_box(folder: Path, runtime: FakeRuntime, box: FakeBox, **spec: object) -> AsyncIterator[Hosted]:
    """A host whose agent may use every native tool of the box."""
    async with hosted(folder, runtime, box=box, limits=HostLimits(drain=0.05, stop_grace=0.3)) as host:
        await host.set_agent(box_policy=EXEC, **spec)
        await until(lambda: host.parts.box_link.availability().available)
        yield host


def done(output: str, code: int = 0) -> process_pb2.ExecOnceResponse:
    status = process_pb2.EXIT_STATUS_COMPLETED
    return process_pb2.ExecOnceResponse(stdout=output.encode(), exit=process_pb2.Exit(status=status, exit_code=code))


def execute(command: str, call_id: str = "") -> run_pull_pb2.RunnerServiceCallToolRequest:
    request = run_pull_pb2.RunnerServiceCallToolRequest(name="exec", call_id=call_id)
    request.arguments["command"] = command
    return request


async def test_a_tool_is_listed_described_and_called_in_the_session_of_the_chat(
    tmp_path: Path, runtime: FakeRuntime
) -> None:
    box = FakeBox()
    box.will_run("echo hi", done("hi\n"))

    async def script(run: FakeRun) -> None:
        names = [tool.name for tool in run.context.resources.tools]
        assert names == ["edit", "exec", "glob", "grep", "read", "write"] and run.context.resources.box
        request = run_pull_pb2.RunnerServiceGetToolRequest(name="exec")
        found = await run.ask("get_tool", request)
        assert "command" in found.tool.parameters["properties"]
        answers = await run.ask_all("call_tool", execute("echo hi"))
        result = answers[-1].call_tool.result
        assert result.text.startswith("exit code 0\nhi") and not result.is_error and result.HasField("duration")

    async with serve_fake_box(box), with_box(tmp_path, runtime, box) as host:
        await played(host, runtime, script, chat="ada")
        (session_id,) = box.sessions
        assert session_id == runtime.runs[0].context.conversation.session_id
        assert "assistant" in session_id and session_id.endswith("person_ada")


async def test_the_same_call_again_is_the_first_one_s_result(tmp_path: Path, runtime: FakeRuntime) -> None:
    box = FakeBox()
    box.will_run("date", done("today"))

    async def script(run: FakeRun) -> None:
        first = (await run.ask_all("call_tool", execute("date", "c1")))[-1].call_tool.result
        again = (await run.ask_all("call_tool", execute("date", "c1")))[-1].call_tool.result
        assert again.text == first.text and again.replayed and not first.replayed
        other = await run.ask("call_tool", execute("rm -rf /", "c1"))
        assert (other.code, other.reason) == (6, Reason.SAME_KEY_OTHER_BODY)

    async with serve_fake_box(box), with_box(tmp_path, runtime, box) as host:
        await played(host, runtime, script)
    assert box.ran == ["date"]


async def test_the_same_call_twice_at_once_runs_once(tmp_path: Path, runtime: FakeRuntime) -> None:
    box = FakeBox()
    box.will_run(HOLD, done("held"))

    async def script(run: FakeRun) -> None:
        calls = [asyncio.create_task(run.ask_all("call_tool", execute(HOLD, "c1"))) for _ in range(2)]
        await box.running.wait()
        await until(lambda: run.last_call == 2)
        box.release.set()
        results = [(await call)[-1].call_tool.result.text for call in calls]
        assert results[0] == results[1]

    async with serve_fake_box(box), with_box(tmp_path, runtime, box) as host:
        await played(host, runtime, script)
    assert box.ran == [HOLD]


async def test_a_command_whose_result_is_lost_ends_the_run_with_a_clear_notice(
    tmp_path: Path, runtime: FakeRuntime
) -> None:
    box = FakeBox()
    box.will_run("charge the card", Unavailable("the connection broke"))

    async def script(run: FakeRun) -> None:
        lost = await run.ask("call_tool", execute("charge the card", "c1"))
        assert (lost.code, lost.reason) == (9, Reason.EFFECT_UNKNOWN)
        # In other words, or once more: it may have happened, so nothing like it is done.
        other = await run.ask("call_tool", execute("charge the card again", "c2"))
        assert other.reason == Reason.EFFECT_UNKNOWN
        await run.send(run.result(run_failed={"error": {"code": "tool.effect_unknown", "message": "lost"}}))

    runtime.script = script
    async with serve_fake_box(box), with_box(tmp_path, runtime, box) as host:
        accepted = await host.submit()
        run = await host.ended(accepted.run_id)
        assert run.error.code == "tool.effect_unknown"
        notice = (await host.transcript(accepted.conversation_id))[-1]
        assert notice.kind == "notice" and "may have run" in notice.text
        explained = await host.runs.ExplainRun(run_pb2.ExplainRunRequest(run_id=run.run_id))
        assert any(step.stage == "tool" and "unknown" in step.summary for step in explained.steps)
    assert box.ran == ["charge the card"]


async def test_a_second_attempt_gets_the_result_that_the_first_one_had(tmp_path: Path, runtime: FakeRuntime) -> None:
    box = FakeBox()
    box.will_run("make it", done("made"))
    called = asyncio.Event()

    async def first_attempt(run: FakeRun) -> None:
        await run.ask_all("call_tool", execute("make it", "c1"))
        called.set()
        await asyncio.Event().wait()

    async def second_attempt(run: FakeRun) -> None:
        # Another id: a model that is asked again does not choose the same.
        result = (await run.ask_all("call_tool", execute("make it", "other")))[-1].call_tool.result
        assert result.replayed
        await run.answer(result.text)

    runtime.script = first_attempt
    async with serve_fake_box(box):
        async with with_box(tmp_path, runtime, box, on_interrupted=InterruptedPolicy.RETRY) as host:
            accepted = await host.submit()
            await called.wait()
        runtime.script = second_attempt
        async with with_box(tmp_path, runtime, box) as host:
            run = await host.ended(accepted.run_id)
            assert run.state == run_pb2.RUN_STATE_COMPLETED and run.attempt == 2
            assert "made" in (await host.transcript(accepted.conversation_id))[-1].text
    assert box.ran == ["make it"]


async def test_a_second_attempt_asks_the_box_what_became_of_a_call_without_result(
    tmp_path: Path, runtime: FakeRuntime
) -> None:
    box = FakeBox()
    box.will_run(HOLD, done("in the end"))

    async def calls(run: FakeRun) -> None:
        result = (await run.ask_all("call_tool", execute(HOLD, "c1")))[-1].call_tool.result
        await run.answer(result.text)

    runtime.script = calls
    async with serve_fake_box(box):
        async with with_box(tmp_path, runtime, box, on_interrupted=InterruptedPolicy.RETRY) as host:
            accepted = await host.submit()
            await box.running.wait()
        # The host is gone before the box has answered: nothing but the plan is on disk.
        box.release.set()
        async with with_box(tmp_path, runtime, box) as host:
            run = await host.ended(accepted.run_id)
            assert run.state == run_pb2.RUN_STATE_COMPLETED and run.attempt == 2
            assert "in the end" in (await host.transcript(accepted.conversation_id))[-1].text
    assert box.ran == [HOLD]
    assert [request.reconcile for request in box.requests][-1]


async def test_arguments_that_do_not_fit_are_refused_and_nothing_is_run(tmp_path: Path, runtime: FakeRuntime) -> None:
    box = FakeBox()

    async def script(run: FakeRun) -> None:
        wrong = await run.ask("call_tool", run_pull_pb2.RunnerServiceCallToolRequest(name="exec"))
        assert wrong.code == 3 and wrong.violations[0].field.startswith("arguments")
        missing = await run.ask("call_tool", run_pull_pb2.RunnerServiceCallToolRequest(name="exce"))
        assert missing.code == 5

    async with serve_fake_box(box), with_box(tmp_path, runtime, box) as host:
        await played(host, runtime, script)
    assert not box.ran
