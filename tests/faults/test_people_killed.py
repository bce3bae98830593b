"""The host is killed around questions and approvals: no question is lost or asked twice, nothing fatal runs twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from portway.rpc.errors import PortwayError
from portway.v1 import run_pb2, run_result_pb2
from tests.asking_people import ASKING, a_form, an_answer, ask, completes
from tests.deciding import APPROVED, PENDING, approvals, decide, done, execute, one_pending
from tests.fakes.box_server import FakeBox, serve_fake_box
from tests.fakes.runtime_server import FakeRun, FakeRuntime, answer_hello, serve_fake_runtime
from tests.faults.host_process import HostProcess, ended, serving, submit
from tests.waiting import until

FATAL = "rm -rf /srv/data"
COMPLETED = run_pb2.RUN_STATE_COMPLETED
AWAITING = run_result_pb2.FINISH_REASON_AWAITING_INTERACTION


@asynccontextmanager
async def a_host(folder: Path, box: FakeBox | None = None) -> AsyncIterator[tuple[HostProcess, FakeRuntime]]:
    async with serve_fake_runtime(FakeRuntime(manifest=ASKING)) as runtime:
        process = HostProcess(folder, runtime, box)
        config = folder / "portway.yaml"
        text = config.read_text()
        config.write_text(
            text.replace('box_policy: {tools: ["*"]}', f'box_policy: {{tools: ["*"], approved_commands: ["{FATAL}"]}}')
        )
        async with serving(process):
            yield process, runtime


async def answered(process: HostProcess, run_id: str) -> run_pb2.SubmitInteractionResponse:
    async with process.client() as host:
        request = run_pb2.SubmitInteractionRequest(answer=an_answer(run_id, city="Rome"), request_id="r1")
        response: run_pb2.SubmitInteractionResponse = await host.runs.stub.SubmitInteraction(request, timeout=10)
        return response


@pytest.mark.parametrize("moment", ["asked", "committed", "ended"])
async def test_a_question_survives_a_kill_when_it_was(tmp_path: Path, moment: str) -> None:
    reached, hold = asyncio.Event(), asyncio.Event()

    async def asks(run: FakeRun) -> None:
        asking = asyncio.ensure_future(ask(run, a_form()))
        if moment == "asked":
            reached.set()
            await hold.wait()
        await asking
        if moment == "committed":
            reached.set()
            await hold.wait()
        await run.send(completes(run))

    async with a_host(tmp_path) as (process, runtime):
        runtime.script = asks
        async with process.client() as host:
            accepted = await submit(host, "hi", "k1", "chat")
        if moment == "ended":
            await ended(process, accepted.run_id)
        else:
            await reached.wait()
        await process.kill()
        moment = "ended"
        hold.set()
        await process.start()
        run = await ended(process, accepted.run_id)
        assert (run.state, run.finish_reason) == (COMPLETED, AWAITING), run
        async with process.client() as host:
            listed = await host.runs.stub.ListInteractions(run_pb2.ListInteractionsRequest(run_id=run.run_id))
        assert len(listed.interactions) == 1
        runtime.script = answer_hello
        first = await answered(process, run.run_id)
        # The answer is on disk; the run that it started is not lost, and no second one is begun.
        await process.restart()
        again = await answered(process, run.run_id)
        assert again.run_id == first.run_id and again.duplicate
        assert (await ended(process, first.run_id)).state == COMPLETED


@pytest.mark.parametrize("moment", ["asked", "decided", "running"])
async def test_a_command_is_approved_and_run_once_over_a_kill_when_it_was(tmp_path: Path, moment: str) -> None:
    outcomes: list[str] = []

    async def removes(run: FakeRun) -> None:
        answer = (await run.ask_all("call_tool", execute(FATAL, "c1")))[-1]
        outcomes.append(answer.error.reason or answer.call_tool.result.text)
        await run.answer("done")

    box = FakeBox()
    box.will_run(FATAL, done("gone"))
    async with serve_fake_box(box), a_host(tmp_path, box) as (process, runtime):
        runtime.script = removes
        async with process.client() as host:
            accepted = await submit(host, "hi", "k1", "chat")
            approval = await one_pending(host.runs.stub)
            if moment != "asked":
                deciding = asyncio.ensure_future(decide(host.runs.stub, approval))
                if moment == "running":
                    await until(lambda: bool(box.requests))
                await process.kill()
                try:
                    await deciding
                except (PortwayError, OSError):
                    pass
        await process.kill()
        await process.start()
        async with process.client() as host:
            (kept,) = await approvals(host.runs.stub, run_id=accepted.run_id)
            assert kept.approval_id == approval.approval_id and kept.state in (PENDING, APPROVED)
            if kept.state == PENDING:
                await decide(host.runs.stub, kept)
        run = await ended(process, accepted.run_id)
        assert run.state == COMPLETED, run
        async with process.client() as host:
            assert len(await approvals(host.runs.stub, run_id=accepted.run_id)) == 1
    assert box.ran == [FATAL] and outcomes[-1].startswith("exit code 0")
