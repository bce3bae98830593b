"""Who gets in, how much, and what happens when either side goes away."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from portway.server.agents.types import Budget
from portway.server.gateway.config import GatewayLimits
from portway.server.models.config import ModelConfig, ModelsConfig, ProviderConfig, ProviderKind
from portway.v1 import run_pb2
from tests.fakes.model_api import Answer, FakeModelApi, Hold, failure, serve_fake_model_api
from tests.fakes.model_wire import WireAnswer, WireToolCall, anthropic_frames, openai_frames
from tests.fakes.runtime_server import FakeRun, FakeRuntime, a_manifest, serve_fake_runtime
from tests.server.gateway.programs import anthropic_of, http_of, openai_of
from tests.server.hosting import Hosted, hosted
from tests.server.playing import played
from tests.server.spending.asking import spending

HELLO: Any = [{"role": "user", "content": "hello"}]


@asynccontextmanager
async def remote(folder: Path, kind: str, **gateway: Any) -> AsyncIterator[tuple[Hosted, FakeRuntime, FakeModelApi]]:
    """A host whose model is a strict endpoint that a test scripts."""
    async with serve_fake_runtime(FakeRuntime()) as runtime, serve_fake_model_api() as api:
        provider = ProviderConfig(
            kind=ProviderKind(kind),
            base_url=f"{api.base_url}/v1",
            api_key=api.api_key,
            models=(ModelConfig("main", name="vendor-main"),),
        )
        models = ModelsConfig(default="main", providers={"p": provider})
        async with hosted(
            folder, runtime, models=models, http_listen="127.0.0.1:0", gateway=GatewayLimits(**gateway)
        ) as host:
            await host.set_agent()
            yield host, runtime, api


async def test_only_tokens_of_runs_open_the_gateway(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        token = run.start.run_token
        for wrong in ("", "nonsense", host.admin_token, token[:-1] + ("0" if token[-1] != "0" else "1")):
            async with openai_of(run, wrong or "x") as client, anthropic_of(run, wrong or "x") as other:
                with pytest.raises(openai.AuthenticationError) as caught:
                    await client.chat.completions.create(model="demo", messages=HELLO)
                assert caught.value.code == "invalid_api_key"
                with pytest.raises(anthropic.AuthenticationError) as refused:
                    await other.messages.create(model="demo", max_tokens=9, messages=HELLO)
                assert refused.value.body["error"]["type"] == "authentication_error"  # type: ignore[index]  # a body is any JSON
                assert token not in str(caught.value) and token not in str(refused.value)

    await played(host, runtime, script)


async def test_a_finished_run_has_no_key(host: Hosted, runtime: FakeRuntime) -> None:
    run = await played(host, runtime, _nothing)
    assert run.state == run_pb2.RUN_STATE_COMPLETED
    async with openai_of(runtime.runs[0]) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model="demo", messages=HELLO)
    assert "has ended" in str(caught.value)


async def test_a_run_without_the_permission_gets_a_refusal(tmp_path: Path) -> None:
    manifest = a_manifest(permissions=["models_stream"])
    async with (
        serve_fake_runtime(FakeRuntime(manifest=manifest)) as runtime,
        hosted(tmp_path, runtime, http_listen="127.0.0.1:0") as host,
    ):
        await host.set_agent()

        async def script(run: FakeRun) -> None:
            async with openai_of(run) as client, anthropic_of(run) as other:
                with pytest.raises(openai.PermissionDeniedError):
                    await client.chat.completions.create(model="demo", messages=HELLO)
                async with other.messages.stream(model="demo", max_tokens=900, messages=HELLO) as stream:
                    assert (await stream.get_final_message()).stop_reason == "end_turn"

        await played(host, runtime, script)


async def test_the_end_of_a_run_cuts_its_streams(tmp_path: Path) -> None:
    async with remote(tmp_path, "openai") as (host, runtime, api):
        frames = openai_frames(WireAnswer(text=("one ", "two ")))
        api.will(Answer((*frames[:2], Hold(asyncio.Event()))))
        errors: list[str] = []
        begun = asyncio.Event()
        reading: list[asyncio.Task[None]] = []

        async def read(run: FakeRun) -> None:
            async with anthropic_of(run) as client:
                try:
                    async with client.messages.stream(model="main", max_tokens=99, messages=HELLO) as stream:
                        async for event in stream:
                            if event.type == "text":
                                begun.set()
                except anthropic.APIStatusError as error:
                    errors.append(error.body["error"]["type"])  # type: ignore[index]  # any JSON

        async def script(run: FakeRun) -> None:
            reading.append(asyncio.ensure_future(read(run)))
            await begun.wait()

        run = await played(host, runtime, script)
        assert run.state == run_pb2.RUN_STATE_COMPLETED
        await asyncio.wait_for(reading[0], 60)
        assert errors == ["authentication_error"]
        await asyncio.wait_for(api.client_left.wait(), 60)


async def test_a_program_that_leaves_ends_the_call_of_the_model(tmp_path: Path) -> None:
    async with remote(tmp_path, "openai") as (host, runtime, api):
        frames = openai_frames(WireAnswer(text=("one ", "two ")))
        api.will(Answer((*frames[:2], Hold(asyncio.Event()))), Answer((Hold(asyncio.Event()),)))

        async def script(run: FakeRun) -> None:
            async with openai_of(run) as client:
                stream = await client.chat.completions.create(model="main", messages=HELLO, stream=True)
                async for _ in stream:
                    break
                await stream.close()
                await asyncio.wait_for(api.client_left.wait(), 60)
                # The same before the first byte of an answer.
                api.client_left.clear()
                api.arrived.clear()
                asking = asyncio.ensure_future(client.chat.completions.create(model="main", messages=HELLO))
                await api.arrived.wait()
                asking.cancel()
                await asyncio.wait_for(api.client_left.wait(), 60)

        await played(host, runtime, script)


async def test_limits_of_bodies_and_of_requests_at_once(tmp_path: Path) -> None:
    async with remote(tmp_path, "openai", body_bytes=2000, requests_per_run=1) as (host, runtime, api):
        frames = openai_frames(WireAnswer(text=("one ",)))
        go_on = asyncio.Event()
        api.will(Answer((frames[0], Hold(go_on), *frames[1:])))

        async def script(run: FakeRun) -> None:
            async with http_of(run) as http, openai_of(run) as client:
                large = await http.post("/openai/v1/chat/completions", content=b"x" * 2001)
                assert large.status_code == 413
                nonsense = await http.post("/openai/v1/chat/completions", content=b"{nonsense")
                assert nonsense.status_code == 400
                assert nonsense.json()["error"]["type"] == "invalid_request_error"
                deep = await http.post("/anthropic/v1/messages", content=b"[" * 1900)
                assert (deep.status_code, deep.json()["type"]) == (400, "error")
                assert (await http.get("/openai/v1/nothing")).status_code == 404
                assert (await http.get("/anthropic/v1/nothing")).json()["error"]["type"] == "not_found_error"
                first = asyncio.ensure_future(client.chat.completions.create(model="main", messages=HELLO))
                await api.arrived.wait()
                with pytest.raises(openai.RateLimitError) as caught:
                    await client.chat.completions.create(model="main", messages=HELLO)
                assert caught.value.response.headers["retry-after"] == "1"
                go_on.set()
                assert (await first).choices[0].message.content == "one "

        await played(host, runtime, script)


async def test_failures_of_a_provider_in_both_shapes(tmp_path: Path) -> None:
    async with remote(tmp_path, "openai") as (host, runtime, api):

        async def script(run: FakeRun) -> None:
            async with openai_of(run) as client, anthropic_of(run) as other:
                api.will(failure(400, {"error": {"message": "no such thing", "type": "invalid_request_error"}}))
                with pytest.raises(openai.BadRequestError):
                    await client.chat.completions.create(model="main", messages=HELLO)
                api.will(failure(400, {"error": {"message": "no such thing", "type": "invalid_request_error"}}))
                with pytest.raises(anthropic.BadRequestError) as caught:
                    await other.messages.create(model="main", max_tokens=9, messages=HELLO)
                assert caught.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]  # any JSON
                frames = openai_frames(WireAnswer(text=("one ", "two ")))
                api.will(Answer(tuple(frames[:2])))
                with pytest.raises(openai.APIError):
                    stream = await client.chat.completions.create(model="main", messages=HELLO, stream=True)
                    async for _ in stream:
                        pass

        await played(host, runtime, script)


async def test_a_spent_budget_is_said_in_both_shapes_and_ends_the_run(host: Hosted, runtime: FakeRuntime) -> None:
    await host.set_agent(run_budget=Budget(calls=1))
    seen: list[object] = []

    async def script(run: FakeRun) -> None:
        async with openai_of(run) as client, http_of(run) as http:
            await client.chat.completions.create(model="demo", messages=HELLO)
            answer = await http.post("/anthropic/v1/messages", json={"model": "x", "max_tokens": 9, "messages": HELLO})
            seen.append((answer.status_code, answer.json()["error"]["type"], answer.headers["x-should-retry"]))
        await run.cancelled.wait()

    runtime.script = script
    run = await host.asked()
    assert run.error.code == "budget.exhausted"
    assert seen == [(402, "billing_error", "false")]
    assert (await spending(host, run_id=run.run_id)).spending.calls == 1


async def test_calls_are_in_the_ledger_of_the_run_and_what_was_said_is_not(host: Hosted, runtime: FakeRuntime) -> None:
    body = json.dumps({"model": "gpt-x", "messages": [{"role": "user", "content": "a-secret-word"}]}).encode()

    async def script(run: FakeRun) -> None:
        async with http_of(run) as http:
            assert (await http.post("/openai/v1/chat/completions", content=body)).status_code == 200
            assert (await http.post("/openai/v1/chat/completions", content=b"{}")).status_code == 400

    run = await played(host, runtime, script)
    entries = [e.recorded for e in await host.watch(run.run_id) if e.WhichOneof("kind") == "recorded"]
    assert [entry.reason for entry in entries] == ["MODEL_GATEWAY", "MODEL_GATEWAY"]
    assert hashlib.sha256(body).hexdigest() in entries[0].summary
    assert "model demo" in entries[0].summary and entries[0].summary.endswith(": ok")
    assert entries[1].summary.endswith(": INVALID_FIELD")
    assert not any("a-secret-word" in entry.summary for entry in entries)
    assert run.usage.input_tokens > 0


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
async def test_thoughts_and_parallel_calls_go_through_a_program_and_back(tmp_path: Path, vendor: str) -> None:
    frames = openai_frames if vendor == "openai" else anthropic_frames
    calls = (WireToolCall("c1", "left", ('{"a"', ": 1}")), WireToolCall("c2", "right", ("{}",)))
    said = WireAnswer(reasoning=("let me ", "think"), text=("Both ", "now."), tool_calls=calls)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    async with remote(tmp_path, vendor) as (host, runtime, api):
        api.will(Answer(tuple(frames(said))), Answer(tuple(frames(WireAnswer(text=("done",))))))

        async def script(run: FakeRun) -> None:
            asked: Any = {
                "model": "vendor-main",
                "max_tokens": 5000,
                "thinking": {"type": "enabled", "budget_tokens": 2000},
                "tools": [{"name": name, "input_schema": schema} for name in ("left", "right")],
            }
            async with anthropic_of(run) as client:
                async with client.messages.stream(messages=HELLO, **asked) as stream:
                    first = await stream.get_final_message()
                kinds = [block.type for block in first.content]
                assert kinds == ["thinking", "text", "tool_use", "tool_use"]
                assert first.content[0].thinking == "let me think"
                assert [block.input for block in first.content[2:]] == [{"a": 1}, {}]
                assert first.stop_reason == "tool_use"
                results = [
                    {
                        "type": "tool_result",
                        "tool_use_id": name,
                        "content": f"result of {name}",
                        "is_error": name == "c2",
                    }
                    for name in ("c1", "c2")
                ]
                messages = [
                    *HELLO,
                    {"role": "assistant", "content": [block.model_dump() for block in first.content]},
                    {"role": "user", "content": results},
                ]
                second = await client.messages.create(messages=messages, **asked)
            assert second.content[0].text == "done"

        await played(host, runtime, script)
        sent = api.requests[-1].body["messages"]
        assert "result of c1" in json.dumps(sent) and "result of c2" in json.dumps(sent)
        if vendor == "anthropic":
            # The provider gets its own proof back, unchanged.
            blocks = [block for message in sent for block in message["content"] if isinstance(block, dict)]
            thoughts = [block for block in blocks if block["type"] == "thinking"]
            assert [(one["thinking"], one["signature"]) for one in thoughts] == [("let me think", "c2lnbmVk")]


async def _nothing(run: FakeRun) -> None:
    return None


async def test_a_host_without_http_tells_no_address(tmp_path: Path) -> None:
    async with serve_fake_runtime(FakeRuntime()) as runtime, hosted(tmp_path, runtime) as host:
        await host.set_agent()
        await played(host, runtime, _nothing)
        assert runtime.runs[0].context.runtime.model_gateway_url == ""
