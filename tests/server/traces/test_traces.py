"""One trace from an adapter's event to the model's provider, as a collector sees it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.telemetry import Trace, tracing
from portway.rpc.traces.config import TelemetryConfig
from portway.server.agents.types import RetryPolicy
from portway.server.models.config import DemoConfig, ModelConfig, ModelsConfig, ProviderConfig, ProviderKind
from portway.v1 import content_pb2, run_model_pb2
from tests.fakes.adapter_client import an_adapter
from tests.fakes.collector import FakeCollector, serve_collector
from tests.fakes.model_api import Answer, FakeModelApi, serve_fake_model_api
from tests.fakes.model_wire import WireAnswer, openai_frames
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.server.hosting import Hosted, hosted, text_part

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
SECRET_TEXT = "the secret words of a person"


async def ask_a_model(run: FakeRun) -> None:
    message = run_model_pb2.ModelMessage(role=content_pb2.MESSAGE_ROLE_USER, parts=[text_part(run.context.input.text)])
    question = run_model_pb2.ModelRequest(model_id="fake-model", messages=[message])
    answer = await run.ask("invoke_model", run_model_pb2.InvokeModelRequest(request=question))
    assert answer.HasField("answer"), answer
    await run.answer("thanks")


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    with serve_collector() as serving:
        yield serving


@pytest.fixture
async def runtime() -> AsyncIterator[FakeRuntime]:
    async with serve_fake_runtime(FakeRuntime()) as serving:
        yield serving


def telemetry_to(collector: FakeCollector, ratio: float = 1.0) -> TelemetryConfig:
    return TelemetryConfig(collector.url, ratio, {"x-key": collector.key})


@pytest.fixture
async def host(tmp_path: Path, runtime: FakeRuntime, collector: FakeCollector) -> AsyncIterator[Hosted]:
    async with hosted(tmp_path, runtime, telemetry=telemetry_to(collector)) as serving:
        await serving.set_agent()
        yield serving


def models_of(api: FakeModelApi, *, header: bool) -> ModelsConfig:
    provider = ProviderConfig(
        ProviderKind.OPENAI,
        (ModelConfig("fake-model"),),
        base_url=f"{api.base_url}/v1",
        api_key=api.api_key,
        trace_header=header,
    )
    return ModelsConfig(default="fake-model", providers={"main": provider}, demo=DemoConfig(slow_chunk_seconds=0.0))


@pytest.mark.parametrize("header", [True, False])
async def test_one_trace_from_the_adapter_to_the_models_provider(
    tmp_path: Path, runtime: FakeRuntime, collector: FakeCollector, header: bool
) -> None:
    runtime.script = ask_a_model
    async with serve_fake_model_api("test-key") as api:
        api.will(Answer(tuple(openai_frames(WireAnswer(("hello",))))))
        models = models_of(api, header=header)
        async with hosted(tmp_path, runtime, models=models, telemetry=telemetry_to(collector)) as host:
            await host.set_agent()
            async with an_adapter(host.address, host.admin_token) as adapter:
                await adapter.hello()
                await adapter.submit(SECRET_TEXT, key="k1", traceparent=PARENT)
                delivery = await adapter.next("delivery")
                await adapter.tell(delivery.delivery_id)
                await collector.until("accept", "queue", "attempt", "run", "model call", "delivery")
        (asked,) = api.requests
    accept, run, attempt = collector.one("accept"), collector.one("run"), collector.one("attempt")
    queue, model, sent = collector.one("queue"), collector.one("model call"), collector.one("delivery")
    assert {span.trace_id for span in collector.spans} == {TRACE}
    assert accept.parent_id == SPAN
    assert run.parent_id == accept.span_id
    assert queue.parent_id == attempt.parent_id == sent.parent_id == run.span_id
    assert model.parent_id == attempt.span_id
    assert run.attributes["portway.agent"] == "assistant"
    assert model.attributes["portway.model"] == "fake-model"
    assert (runtime.traceparents, runtime.runs[0].context.runtime.trace_id) == (
        [f"00-{TRACE}-{attempt.span_id}-01"],
        TRACE,
    )
    assert asked.headers.get("traceparent") == (f"00-{TRACE}-{model.span_id}-01" if header else None)
    assert not any(SECRET_TEXT.encode() in body or b"hello" in body for body in collector.bodies)


async def test_a_later_attempt_has_its_place_in_the_tree_and_a_link_back(
    host: Hosted, runtime: FakeRuntime, collector: FakeCollector
) -> None:
    async def fail_once(run: FakeRun) -> None:
        if len(runtime.runs) == 1:
            await run.send(run.result(run_failed={"error": {"code": "runner.error", "retryable": True}}))
        else:
            await run.answer("now")

    await host.set_agent(retry_policy=RetryPolicy(max_attempts=2, first_delay_seconds=0.01))
    runtime.script = fail_once
    run = await host.asked("hi")
    await collector.until("run")
    first, second = collector.one("attempt", attempt=1), collector.one("attempt", attempt=2)
    whole = collector.one("run", run_id=run.run_id)
    assert first.trace_id == second.trace_id == whole.trace_id == run.trace_id
    assert first.parent_id == second.parent_id == whole.span_id
    assert (first.error, second.error) == ("runner.error", "")
    assert (first.links, second.links) == ((), ((run.trace_id, first.span_id),))


async def test_a_callers_own_span_is_the_parent_of_the_call_and_of_what_follows(
    host: Hosted, collector: FakeCollector
) -> None:
    async with open_channel(host.address, token=host.admin_token) as channel:
        caller = Hosted(host.host, channel, host.admin_token)
        with tracing(Trace.at(TRACE, SPAN)):
            accepted = await caller.submit("hi")
    await host.ended(accepted.run_id)
    await collector.until("run", "portway.v1.EventService/SubmitEvent")
    call = collector.one("portway.v1.EventService/SubmitEvent")
    accept, run = collector.one("accept"), collector.one("run")
    assert (call.trace_id, call.parent_id) == (TRACE, SPAN)
    assert accept.parent_id == call.span_id
    assert (run.trace_id, run.parent_id) == (TRACE, accept.span_id)


async def test_calls_that_no_trace_leads_to_have_no_spans(host: Hosted, collector: FakeCollector) -> None:
    run = await host.asked("hi")
    await collector.until("run")
    assert {span.name for span in collector.spans} <= {"accept", "queue", "attempt", "run", "delivery"}
    assert collector.one("accept").parent_id == ""
    assert collector.one("run").trace_id == run.trace_id


async def test_nothing_is_recorded_of_traces_that_are_not_sampled(
    tmp_path: Path, runtime: FakeRuntime, collector: FakeCollector
) -> None:
    async with hosted(tmp_path, runtime, telemetry=telemetry_to(collector, ratio=0.0)) as host:
        await host.set_agent()
        run = await host.asked("hi")
    assert run.trace_id
    assert collector.spans == []


async def test_a_collector_that_is_away_is_told_once_and_gets_what_waited(
    host: Hosted, collector: FakeCollector, capsys: pytest.CaptureFixture[str]
) -> None:
    collector.status = 503
    for number in range(3):
        await host.asked(f"message {number}", chat=f"chat-{number}")
    async with asyncio.timeout(30):
        while collector.refused < 2:  # noqa: ASYNC110 - a thread counts them
            await asyncio.sleep(0.05)
    collector.status = 200
    await collector.until("run")
    assert sum(span.name == "run" for span in collector.spans) == 3
    said = capsys.readouterr().out
    assert said.count("traces cannot be sent") == 1
    assert said.count("traces are sent again") == 1


async def test_without_a_collector_a_run_is_as_it_is_otherwise(tmp_path: Path, runtime: FakeRuntime) -> None:
    async with hosted(tmp_path, runtime) as host:
        await host.set_agent()
        run = await host.asked("hi")
    assert run.trace_id
    (told,) = runtime.traceparents
    assert told is not None
    assert (told.split("-")[1], told[-2:]) == (run.trace_id, "00")


async def test_a_bridge_of_an_event_that_names_no_trace_begins_one(host: Hosted) -> None:
    async with an_adapter(host.address, host.admin_token) as adapter:
        await adapter.hello()
        for number, traceparent in enumerate(("", "nonsense", "00-" + "0" * 32 + "-" + "1" * 16 + "-01")):
            await adapter.submit("hi", key=f"k{number}", chat=f"chat{number}", traceparent=traceparent)
            ack = await adapter.next("ack")
            run = await host.run(ack.accepted.run_id)
            assert len(run.trace_id) == 32
            assert run.trace_id.strip("0")
