"""What a host counts, read as Prometheus reads it while messages, models and tools are at work."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from portway.rpc.metrics.config import MetricsConfig
from portway.v1 import content_pb2, run_model_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.server.hosting import Hosted, hosted, text_part


class Metrics:
    """The page of a host."""

    def __init__(self, host: Hosted, token: str) -> None:
        self._host = host
        self._token = token

    async def read(self) -> dict[str, float]:
        async with httpx2.AsyncClient(trust_env=False) as client:
            headers = {"authorization": f"Bearer {self._token}"}
            answer = await client.get(self._host.host.metrics_url, headers=headers)
        assert answer.status_code == 200
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found


async def ask_a_model(run: FakeRun) -> None:
    message = run_model_pb2.ModelMessage(role=content_pb2.MESSAGE_ROLE_USER, parts=[text_part(run.context.input.text)])
    model = run.context.resources.models[0].model_id
    question = run_model_pb2.ModelRequest(model_id=model, messages=[message])
    answer = await run.ask("invoke_model", run_model_pb2.InvokeModelRequest(request=question))
    assert answer.HasField("answer"), answer
    await run.answer("thanks")


@pytest.fixture
async def runtime() -> AsyncIterator[FakeRuntime]:
    async with serve_fake_runtime(FakeRuntime()) as serving:
        yield serving


@pytest.fixture
async def host(tmp_path: Path, runtime: FakeRuntime) -> AsyncIterator[Hosted]:
    config = MetricsConfig("127.0.0.1:0", tmp_path / "metrics.token")
    async with hosted(tmp_path, runtime, metrics=config) as serving:
        await serving.set_agent()
        yield serving


@pytest.fixture
def metrics(tmp_path: Path, host: Hosted) -> Metrics:
    return Metrics(host, (tmp_path / "metrics.token").read_text().strip())


async def test_a_message_moves_the_numbers_that_it_should(host: Hosted, runtime: FakeRuntime, metrics: Metrics) -> None:
    before = await metrics.read()
    assert before["portway_runs_waiting"] == before["portway_runs_active"] == 0
    runtime.script = ask_a_model
    await host.asked("hi")
    found = await metrics.read()
    assert found["portway_rpc_calls_total{code=OK,method=/portway.v1.EventService/SubmitEvent}"] == 1
    assert found["portway_rpc_seconds_count{method=/portway.v1.EventService/SubmitEvent}"] == 1
    assert found["portway_attempts_total{agent=assistant,outcome=completed}"] == 1
    assert found["portway_reply_seconds_count"] == found["portway_queue_seconds_count"] == 1
    assert found["portway_model_calls_total{model=demo,outcome=ok,provider=demo}"] == 1
    assert found["portway_model_tokens_total{kind=output,model=demo,provider=demo}"] > 0
    assert found["portway_sql_commits_total"] > before["portway_sql_commits_total"]
    assert found["portway_sql_commit_seconds_count"] >= 1
    assert found["portway_disk_free_bytes"] > 0
    assert found["portway_link_up{part=runtime}"] == 1


async def test_failures_and_refusals_are_counted_by_what_they_are(
    host: Hosted, runtime: FakeRuntime, metrics: Metrics
) -> None:
    async def fail(run: FakeRun) -> None:
        await run.send(run.result(run_failed={"error": {"code": "runner.error", "message": "no"}}))

    runtime.script = fail
    await host.asked("hi")
    with pytest.raises(Exception, match="run_"):
        await host.run("run_00000000000000000000000000000000")
    found = await metrics.read()
    assert found["portway_attempts_total{agent=assistant,outcome=failed}"] == 1
    assert found["portway_rpc_calls_total{code=NOT_FOUND,method=/portway.v1.RunService/GetRun}"] == 1
    assert "portway_reply_seconds_count" in found
    assert found["portway_reply_seconds_count"] == 0


async def test_no_label_names_a_run_a_person_or_a_conversation(host: Hosted, metrics: Metrics) -> None:
    run = await host.asked("hi", chat="chat-of-somebody")
    for sample in await metrics.read():
        for unique in (run.run_id, run.conversation_id, run.event_id, "chat-of-somebody", "person-of"):
            assert unique not in sample


async def test_numbers_are_there_while_the_runtime_is_not(tmp_path: Path) -> None:
    config = MetricsConfig("127.0.0.1:0", tmp_path / "metrics.token")
    async with hosted(tmp_path, None, metrics=config) as host:
        found = await Metrics(host, (tmp_path / "metrics.token").read_text().strip()).read()
    assert found["portway_link_up{part=runtime}"] == 0
    assert found["portway_metrics_sources_missing"] == 0


def test_servers_without_metrics_load_nothing_for_them() -> None:
    servers = "portway.server.app, portway.server.service_list, portway.runtime.app, portway.box.app"
    heavy = ("prometheus_client", "opentelemetry.sdk", "requests")
    code = f"import sys, {servers}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
