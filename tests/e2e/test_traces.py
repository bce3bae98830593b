"""One trace over every server of an installation, also through a kill of the host."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from portway.v1 import run_pb2
from tests.e2e.stack import Stack, started
from tests.fakes.collector import FakeCollector, serve_collector
from tests.sandbox import needs_sandbox

SECONDS = 120


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    with serve_collector() as serving:
        yield serving


def telemetry(collector: FakeCollector, **more: object) -> str:
    section = {"otlp_endpoint": collector.url, "headers": {"x-key": collector.key}}
    return yaml.safe_dump({"telemetry": section, **more})


@needs_sandbox
async def test_a_command_has_one_trace_over_host_runtime_and_box(tmp_path: Path, collector: FakeCollector) -> None:
    async with started(tmp_path, config=telemetry(collector)) as stack:
        sent = await stack.portway("send", "run: echo the words of a command", "--wait")
        assert sent.code == 0, sent
        await collector.until(
            "run", "tool call", "portway.v1.RuntimeService/RunAgent", "portway.v1.ProcessService/ExecOnce"
        )
    run, attempt, tool = collector.one("run"), collector.one("attempt"), collector.one("tool call")
    relay = collector.one("portway.v1.RuntimeService/RunAgent")
    command = collector.one("portway.v1.ProcessService/ExecOnce")
    assert {span.trace_id for span in (attempt, tool, relay, command)} == {run.trace_id}
    assert (relay.service, relay.parent_id) == ("portway-runtime", attempt.span_id)
    assert (command.service, command.parent_id) == ("portway-box", tool.span_id)
    assert (tool.service, tool.parent_id, attempt.parent_id) == ("portway-host", attempt.span_id, run.span_id)
    assert not any(b"the words of a command" in body for body in collector.bodies)


async def executing(stack: Stack) -> run_pb2.Run:
    async with asyncio.timeout(SECONDS), stack.client() as host:
        while True:
            for run in await host.runs.list():
                if run.state == run_pb2.RUN_STATE_RUNNING:
                    return run
            await asyncio.sleep(0.05)


async def test_the_attempt_after_a_kill_is_in_the_same_tree(tmp_path: Path, collector: FakeCollector) -> None:
    models = {"default": "demo-slow", "demo": {"slow_chunk_seconds": 0.3}}
    async with started(tmp_path, config=telemetry(collector, models=models)) as stack:
        assert (await stack.portway("send", "a long message " * 8)).code == 0
        run = await executing(stack)
        await collector.until("accept")
        await stack.restarted("host", await stack.kill("host"))
        async with asyncio.timeout(SECONDS), stack.client() as host:
            async for _ in host.runs.watch(run.run_id):
                pass
        await collector.until("run")
    accept, whole, second = collector.one("accept"), collector.one("run"), collector.one("attempt", attempt=2)
    assert accept.trace_id == whole.trace_id == second.trace_id == run.trace_id
    assert (whole.parent_id, second.parent_id) == (accept.span_id, whole.span_id)
    assert [trace_id for trace_id, _ in second.links] == [run.trace_id]
    # A run is dated by the clock of the group of writes that it was part of, which may be some milliseconds older.
    assert accept.start <= whole.start + 100_000_000
    assert whole.start + 1_000_000 < second.start
