"""Anthropic's own client against the gateway."""

from typing import Any

import anthropic
import pytest

from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.gateway.programs import PIXEL, TOOL, anthropic_of
from tests.server.hosting import Hosted
from tests.server.playing import played

EXEC = {"name": "exec", "description": "Runs it.", "input_schema": TOOL}


async def test_a_message(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        async with anthropic_of(run) as client:
            answer = await client.messages.create(
                model="claude-something",
                max_tokens=1000,
                system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
                messages=[{"role": "user", "content": "hello there"}],
            )
            assert answer.content[0].type == "text" and "hello there" in answer.content[0].text
            assert (answer.stop_reason, answer.model, answer.role) == ("end_turn", "claude-something", "assistant")
            assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0
            counted = await client.messages.count_tokens(
                model="claude-x", messages=[{"role": "user", "content": "hello there"}]
            )
            assert counted.input_tokens > 0

    await played(host, runtime, script)


async def test_a_streamed_message_is_the_whole_one_in_events(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        messages: Any = [{"role": "user", "content": "hello there"}]
        async with anthropic_of(run) as client:
            whole = await client.messages.create(model="demo", max_tokens=1000, messages=messages)
            async with client.messages.stream(model="demo", max_tokens=1000, messages=messages) as stream:
                kinds = [event.type async for event in stream]
                final = await stream.get_final_message()
        assert final.content[0].type == whole.content[0].type == "text"
        assert final.content[0].text == whole.content[0].text
        assert final.stop_reason == "end_turn"
        assert final.usage.output_tokens == whole.usage.output_tokens
        assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
        assert {"content_block_start", "content_block_delta", "content_block_stop", "message_delta"} < set(kinds)

    await played(host, runtime, script)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_is_used_and_its_result_is_answered(host: Hosted, runtime: FakeRuntime, streamed: bool) -> None:
    async def script(run: FakeRun) -> None:
        messages: Any = [{"role": "user", "content": "run: echo hi"}]
        asked: Any = {"model": "demo", "max_tokens": 1000, "tools": [EXEC]}
        async with anthropic_of(run) as client:
            if streamed:
                async with client.messages.stream(messages=messages, **asked) as stream:
                    first = await stream.get_final_message()
            else:
                first = await client.messages.create(messages=messages, **asked)
            assert first.stop_reason == "tool_use"
            use = first.content[-1]
            assert use.type == "tool_use" and use.name == "exec" and use.input == {"command": "echo hi"}
            result = {"type": "tool_result", "tool_use_id": use.id, "content": "exit code 0\nhi"}
            messages += [
                {"role": "assistant", "content": [block.model_dump() for block in first.content]},
                {"role": "user", "content": [result]},
            ]
            second = await client.messages.create(messages=messages, **asked)
        assert second.content[0].type == "text" and "exit code 0" in second.content[0].text

    await played(host, runtime, script)


async def test_pictures_reach_the_model(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        content = [{"type": "image", "source": source}, {"type": "text", "text": "what is it?"}]
        async with anthropic_of(run) as client:
            answer = await client.messages.create(
                model="demo", max_tokens=100, messages=[{"role": "user", "content": content}]
            )
            assert answer.content[0].type == "text" and "1 picture" in answer.content[0].text
            with pytest.raises(anthropic.BadRequestError) as caught:
                broken = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x.png"}}
                await client.messages.create(
                    model="demo", max_tokens=100, messages=[{"role": "user", "content": [broken]}]
                )
            assert "messages[0].content[0].source.type" in str(caught.value)

    await played(host, runtime, script)
