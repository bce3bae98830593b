"""The host is killed between the plan of a call and its result: for each class of tool, what happens then."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from portway.v1 import run_pb2, run_pb2_grpc, run_pull_pb2
from tests.deciding import done
from tests.fakes.box_server import HOLD, FakeBox, serve_fake_box
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.faults.host_process import HostProcess, ended, serving, submit
from tests.ownership import assert_nothing_owned, owned

COMPLETED, FAILED = run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED
NOBODY_KNOWS = "tool.effect_unknown"


@dataclass(frozen=True)
class Case:
    """`calls`: how often the box does it in all. `effect`: what the ledger says of it in the end, '' for nothing."""

    name: str
    tool: str
    arguments: dict[str, Any]
    forgotten: bool
    state: int
    calls: int
    effect: str


CASES = (
    # Asked again without harm: it is not in the ledger, and the next attempt simply makes it.
    Case("read only", "read", {"path": "notes"}, False, COMPLETED, 2, ""),
    Case("idempotent", "write", {"path": "notes", "content": "new"}, False, COMPLETED, 2, ""),
    # The box keeps results by effect id, and is asked.
    Case("reconcilable", "exec", {"command": HOLD}, False, COMPLETED, 1, "done"),
    Case("reconcilable, and forgotten", "exec", {"command": HOLD}, True, FAILED, 1, "unknown"),
    # Nobody can be asked: it is never made again.
    Case(
        "not idempotent",
        "edit",
        {"path": "notes", "old_text": "old", "new_text": "older old"},
        False,
        FAILED,
        1,
        "unknown",
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_killed_between_the_plan_and_the_result(tmp_path: Path, case: Case) -> None:
    box = FakeBox()
    box.will_run(HOLD, done("held"))

    async def calls(run: FakeRun) -> None:
        request = run_pull_pb2.RunnerServiceCallToolRequest(name=case.tool, call_id="c1")
        request.arguments.update(case.arguments)
        answer = (await run.ask_all("call_tool", request))[-1]
        if answer.HasField("error"):
            await run.send(run.result(run_failed={"error": {"code": NOBODY_KNOWS, "message": answer.error.message}}))
            return
        await run.answer(answer.call_tool.result.text)

    async with serve_fake_box(box), serve_fake_runtime(FakeRuntime(calls)) as runtime:
        async with serving(HostProcess(tmp_path, runtime, box)) as process:
            box.hold_files = case.tool != "exec"
            box.seed("notes", b"old")
            async with process.client() as host:
                accepted = await submit(host, "do it", "k1", "chat")
            await box.running.wait()
            async with process.channel() as channel:
                stub = run_pb2_grpc.RunServiceStub(channel)
                planned = [item.kind for item in await owned(stub, run_id=accepted.run_id)]
                assert ("effect" in planned) == bool(case.effect)
            await process.kill()
            if case.forgotten:
                box.forget_effects()
            box.hold_files = False
            box.release.set()
            await process.start()
            run = await ended(process, accepted.run_id)
            assert (run.state, run.error.code) == (case.state, "" if case.state == COMPLETED else NOBODY_KNOWS), run
            assert (len(box.ran) or box.file_calls[case.tool]) == case.calls
            async with process.channel() as channel:
                stub = run_pb2_grpc.RunServiceStub(channel)
                told = (await stub.ExplainRun(run_pb2.ExplainRunRequest(run_id=run.run_id))).steps
                await assert_nothing_owned(stub, run_id=run.run_id)
            effects = [step for step in told if step.ref.startswith("eff_")]
            assert [step.details["state"] for step in effects] == ([case.effect] if case.effect else [])
