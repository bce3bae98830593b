"""The host is killed while a model answers: what was spent is neither forgotten nor counted twice."""

import asyncio
from pathlib import Path

from portway.v1 import run_model_pb2, run_pb2, spending_pb2
from tests.asking import ask
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.faults.host_process import HostProcess, ended, serving, submit
from tests.server.spending.asking import a_question, ask_model, is_spent

KILLS = 2
AGENT = "budget: {calls: 6}\n  resource_policy: {model_ids: [demo, demo-slow]}"


async def spent(process: HostProcess, **subject: str) -> spending_pb2.Spending:
    async with process.channel() as channel:
        found = await ask(channel, spending_pb2.GetSpendingRequest(**subject))
    spending: spending_pb2.Spending = found.spending
    return spending


async def test_spending_survives_kills_in_the_middle_of_answers(tmp_path: Path) -> None:
    measured: list[int] = []
    made: list[int] = []

    async def script(run: FakeRun) -> None:
        attempt = run.context.attempt
        answer = await ask_model(run)
        assert not is_spent(answer), answer
        measured.append(answer.answer.usage.input_tokens + answer.answer.usage.output_tokens)
        if attempt <= KILLS:
            request = run_model_pb2.StreamModelRequest(request=a_question("hello", "demo-slow"))
            await run.ask_all("stream_model", request)
            await asyncio.Event().wait()
        # Two calls of each of the earlier attempts, and one of this: one is left.
        made.extend([0 if is_spent(await ask_model(run)) else 1 for _ in range(2)])
        await run.cancelled.wait()

    async with serve_fake_runtime(FakeRuntime(script=script)) as runtime:
        process = HostProcess(tmp_path, runtime, agent=AGENT)
        async with serving(process):
            async with process.client() as host:
                accepted = await submit(host, "hi", "k1", "chat")
            for kill in range(1, KILLS + 1):
                # Told from the disk before the call has ended.
                async with asyncio.timeout(120):
                    while (await spent(process, run_id=accepted.run_id)).calls < 2 * kill:  # noqa: ASYNC110 - another process
                        await asyncio.sleep(0.01)
                await process.restart()
                found = await spent(process, run_id=accepted.run_id)
                assert found.calls >= 2 * kill
            run = await ended(process, accepted.run_id)
            assert run.error.code == "budget.exhausted", run
            assert run.state == run_pb2.RUN_STATE_FAILED
            assert made == [1, 0]
            for subject in ({"run_id": run.run_id}, {"agent_id": "assistant"}, {}):
                found = await spent(process, **subject)
                assert found.calls == 6
                # What was under way counts with what it was asked at least.
                assert found.input_tokens + found.output_tokens >= sum(measured) + KILLS
