"""OpenAI's own client against the gateway."""

import json
from typing import Any

import openai
import pytest

from portway.server.agents.types import ModelAlias, ResourcePolicy
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.gateway.programs import PIXEL, TOOL, http_of, openai_of
from tests.server.hosting import Hosted
from tests.server.playing import played

HELLO = [{"role": "user", "content": "hello"}]
EXEC = {"type": "function", "function": {"name": "exec", "description": "Runs it.", "parameters": TOOL}}


async def test_a_chat_completion(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        async with openai_of(run) as client:
            answer = await client.chat.completions.create(
                model="gpt-5-anything",
                messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello there"}],
            )
        assert "hello there" in (answer.choices[0].message.content or "")
        assert answer.choices[0].finish_reason == "stop"
        assert answer.model == "gpt-5-anything"
        assert answer.usage is not None and answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0

    await played(host, runtime, script)


async def test_a_streamed_chat_completion_is_the_whole_one_in_pieces(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        async with openai_of(run) as client:
            stream = await client.chat.completions.create(
                model="demo",
                messages=[{"role": "user", "content": "hello there"}],
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = [chunk async for chunk in stream]
            whole = await client.chat.completions.create(
                model="demo", messages=[{"role": "user", "content": "hello there"}]
            )
        pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert len(pieces) > 10
        assert "".join(pieces) == whole.choices[0].message.content
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        assert chunks[-1].usage == whole.usage

    await played(host, runtime, script)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_is_called_and_its_result_is_answered(host: Hosted, runtime: FakeRuntime, streamed: bool) -> None:
    async def script(run: FakeRun) -> None:
        messages: Any = [{"role": "user", "content": "run: echo hi"}]
        async with openai_of(run) as client:
            if streamed:
                async with client.chat.completions.stream(model="demo", messages=messages, tools=[EXEC]) as stream:
                    first = await stream.get_final_completion()
            else:
                first = await client.chat.completions.create(model="demo", messages=messages, tools=[EXEC])
            choice = first.choices[0]
            assert choice.finish_reason == "tool_calls"
            assert choice.message.tool_calls
            call = choice.message.tool_calls[0]
            assert call.function.name == "exec"
            assert json.loads(call.function.arguments) == {"command": "echo hi"}
            told = choice.message.model_dump(include={"role", "content", "tool_calls"}, exclude_none=True)
            messages += [told, {"role": "tool", "tool_call_id": call.id, "content": "exit code 0\nhi"}]
            second = await client.chat.completions.create(model="demo", messages=messages, tools=[EXEC])
        assert "exit code 0" in (second.choices[0].message.content or "")
        assert second.choices[0].finish_reason == "stop"

    await played(host, runtime, script)


async def test_pictures_and_limits_reach_the_model(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        parts = [
            {"type": "text", "text": "what is it?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        ]
        async with openai_of(run) as client:
            answer = await client.chat.completions.create(model="demo", messages=[{"role": "user", "content": parts}])
            assert "1 picture" in (answer.choices[0].message.content or "")
            cut = await client.chat.completions.create(
                model="demo", messages=[{"role": "user", "content": "hello"}], max_completion_tokens=3
            )
            assert cut.choices[0].finish_reason == "length"
            assert cut.usage is not None and cut.usage.completion_tokens == 3

    await played(host, runtime, script)


async def test_a_response_and_its_stream(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        async with openai_of(run) as client:
            whole = await client.responses.create(model="demo", instructions="Be brief.", input="hello there")
            assert "hello there" in whole.output_text
            assert whole.status == "completed" and whole.usage is not None and whole.usage.output_tokens > 0
            async with client.responses.stream(model="demo", instructions="Be brief.", input="hello there") as stream:
                kinds = [event.type async for event in stream]
                final = await stream.get_final_response()
        assert final.output_text == whole.output_text
        assert kinds[:4] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
        ]
        assert kinds[-4:] == [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]

    await played(host, runtime, script)


@pytest.mark.parametrize("kind", ["function", "custom"])
async def test_a_response_calls_a_tool(host: Hosted, runtime: FakeRuntime, kind: str) -> None:
    tool: Any = {"type": "function", "name": "exec", "description": "Runs it.", "parameters": TOOL, "strict": False}
    if kind == "custom":
        tool = {"type": "custom", "name": "exec", "description": "Runs it."}

    async def script(run: FakeRun) -> None:
        conversation: Any = [{"role": "user", "content": "run: echo hi"}]
        async with openai_of(run) as client:
            async with client.responses.stream(model="demo", input=conversation, tools=[tool]) as stream:
                kinds = [event.type async for event in stream]
                first = await stream.get_final_response()
            calls = [item for item in first.output if item.type in ("function_call", "custom_tool_call")]
            assert len(calls) == 1
            assert "response.output_item.done" in kinds
            if kind == "function":
                assert json.loads(calls[0].arguments) == {"command": "echo hi"}
                assert "response.function_call_arguments.delta" in kinds
            else:
                assert calls[0].type == "custom_tool_call" and "echo hi" in calls[0].input
            conversation += [item.model_dump(exclude_none=True) for item in first.output]
            output = {"type": f"{calls[0].type}_output", "call_id": calls[0].call_id, "output": "exit code 0\nhi"}
            second = await client.responses.create(model="demo", input=[*conversation, output], tools=[tool])
        assert "exit code 0" in second.output_text

    await played(host, runtime, script)


async def test_names_of_models(host: Hosted, runtime: FakeRuntime) -> None:
    await host.set_agent(
        resource_policy=ResourcePolicy(model_ids=("demo", "demo-20")),
        model_aliases=(ModelAlias("gpt-*-mini", "demo-20"), ModelAlias("claude-*", "demo-slow")),
    )

    async def script(run: FakeRun) -> None:
        async with openai_of(run) as client:
            assert sorted([model.id async for model in client.models.list()]) == ["demo", "demo-20"]

            async def said(model: str) -> str:
                answer = await client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "hello"}]
                )
                return answer.choices[0].message.content or ""

            assert "twenty words" in await said("demo-20")
            assert "twenty words" in await said("gpt-5-mini")
            assert "hello" in await said("gpt-5")
            # An alias to a model that the run was not given opens nothing.
            with pytest.raises(openai.NotFoundError) as caught:
                await said("claude-4")
            assert caught.value.code == "model_not_found"

    await played(host, runtime, script)


async def test_embeddings_are_of_the_runs_own_model_in_either_coding(host: Hosted, runtime: FakeRuntime) -> None:
    await host.set_agent(resource_policy=ResourcePolicy(model_ids=("demo", "demo-embed")))

    async def script(run: FakeRun) -> None:
        async with openai_of(run) as client:
            plain = await client.embeddings.create(model="demo-embed", input=["a", "b"], encoding_format="float")
            # The client asks for base64 by itself and reads it.
            packed = await client.embeddings.create(model="demo-embed", input=["a", "b"])
            assert [one.index for one in plain.data] == [0, 1]
            assert plain.data[0].embedding != plain.data[1].embedding
            for one, other in zip(plain.data, packed.data, strict=True):
                assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        async with http_of(run) as http:
            wrong = await http.post("/openai/v1/embeddings", json={"model": "demo-embed", "input": []})
            assert wrong.status_code == 400 and "input" in wrong.json()["error"]["message"]

    await played(host, runtime, script)


async def test_tools_of_the_vendors_own_are_refused_by_their_field(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        hosted_tools: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
            "/openai/v1/responses": ({"input": "hi"}, {"type": "web_search"}),
            "/openai/v1/chat/completions": ({"messages": HELLO}, {"type": "web_search_preview"}),
            "/anthropic/v1/messages": (
                {"messages": HELLO, "max_tokens": 9},
                {"type": "web_search_20250305", "name": "web_search"},
            ),
        }
        async with http_of(run) as http:
            for path, (body, tool) in hosted_tools.items():
                answer = await http.post(path, json={"model": "demo", **body, "tools": [tool]})
                assert answer.status_code == 400
                error = answer.json()["error"]
                assert error["type"] == "invalid_request_error"
                assert "tools[0].type" in error["message"] and tool["type"] in error["message"]

    await played(host, runtime, script)
