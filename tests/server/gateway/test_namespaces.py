"""Tools in groups, as Codex offers those of MCP servers: providers know no groups, and programs get theirs back."""

import json
from pathlib import Path
from typing import Any

import pytest

from portway.server.gateway.namespaces import Namespaces
from tests.fakes.model_api import Answer
from tests.fakes.model_wire import WireAnswer, WireToolCall, openai_frames
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.gateway.programs import http_of
from tests.server.gateway.test_door import remote
from tests.server.hosting import Hosted
from tests.server.playing import played

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
LONG = "x" * 60


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name, "description": f"Does {name}.", "parameters": SCHEMA, "strict": False}


def group(name: str, *tools: str) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "description": "A server.", "tools": [function(one) for one in tools]}


TOOLS = [
    function("shell"),
    function("mcp__portway__look"),
    group("mcp__portway__", "event", "look", LONG),
    group("mcp__other", "event"),
]


def _output(call_id: str) -> dict[str, str]:
    return {"type": "function_call_output", "call_id": call_id, "output": f"of {call_id}"}


def events(body: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in body.splitlines() if line.startswith("data: {")]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_of_a_tool_in_a_group_comes_back_in_both_parts(tmp_path: Path, stream: bool) -> None:
    async with remote(tmp_path, "openai") as (host, runtime, api):
        first = WireAnswer(
            tool_calls=(WireToolCall("c1", "mcp__portway__event", ("{}",)), WireToolCall("c2", "shell", ("{}",)))
        )
        api.will(Answer(tuple(openai_frames(first))), Answer(tuple(openai_frames(WireAnswer(text=("done",))))))

        async def script(run: FakeRun) -> None:
            said: list[Any] = [{"role": "user", "content": "look"}]
            asked = {"model": "main", "input": said, "tools": TOOLS, "stream": stream}
            async with http_of(run) as http:
                answer = await http.post("/openai/v1/responses", json=asked)
                assert answer.status_code == 200, answer.text
                if stream:
                    told = events(answer.text)
                    items = [one["item"] for one in told if one["type"] == "response.output_item.done"]
                    assert items == told[-1]["response"]["output"]
                else:
                    items = answer.json()["output"]
                calls = [one for one in items if one["type"] == "function_call"]
                parts = [(one.get("namespace"), one["name"], one["call_id"]) for one in calls]
                assert parts == [("mcp__portway__", "event", "c1"), (None, "shell", "c2")]
                outputs = [
                    {"type": "function_call_output", "call_id": one, "output": f"of {one}"} for one in ("c1", "c2")
                ]
                answer = await http.post("/openai/v1/responses", json=asked | {"input": said + calls + outputs})
                assert answer.status_code == 200 and "done" in answer.text

        await played(host, runtime, script)
        offered = [tool["function"]["name"] for tool in api.requests[0].body["tools"]]
        assert (
            offered[:3] == ["shell", "mcp__portway__look", "mcp__portway__event"] and offered[5] == "mcp__other__event"
        )
        assert len(set(offered)) == 6 and all(len(name) <= 64 for name in offered)
        history = json.dumps(api.requests[1].body["messages"])
        assert "mcp__portway__event" in history and "of c1" in history


async def test_what_is_no_group_is_refused_by_its_field(host: Hosted, runtime: FakeRuntime) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "tools[0].name": {"type": "namespace", "tools": [function("a")]},
        "tools[0].tools": {"type": "namespace", "name": "g", "tools": "all"},
        "tools[0].tools[0].type": {"type": "namespace", "name": "g", "tools": [group("inner", "a")]},
        "tools[0].tools[0].name": {"type": "namespace", "name": "g", "tools": [{"type": "function"}]},
    }

    async def script(run: FakeRun) -> None:
        async with http_of(run) as http:
            for path, tool in wrong.items():
                answer = await http.post("/openai/v1/responses", json={"model": "demo", "input": "hi", "tools": [tool]})
                assert answer.status_code == 400, answer.text
                assert path in answer.json()["error"]["message"]
            chosen = {"type": "function", "namespace": "mcp__other", "name": "event"}
            asked = {"model": "demo", "input": "hi", "tools": TOOLS, "tool_choice": chosen}
            assert (await http.post("/openai/v1/responses", json=asked)).status_code == 200
            asked["tool_choice"] = chosen | {"name": "absent"}
            assert (await http.post("/openai/v1/responses", json=asked)).status_code == 400

    await played(host, runtime, script)


def test_names_are_never_one_for_two_tools() -> None:
    pairs = [
        ("a__b", "c"),
        ("a", "b__c"),
        ("a", "b c"),
        ("a", "b_c"),
        ("g", LONG),
        ("g", LONG + "y"),
        ("g_", "x"),
        ("g", "x"),
    ]
    spaces = Namespaces(pairs, ["a__b__c"])
    flat = [spaces.flat(*pair) for pair in pairs]
    assert len(set(flat)) == len(pairs) and "a__b__c" not in flat
    assert [spaces.parts(one) for one in flat] == pairs
    assert spaces.parts("a__b__c") == ("", "a__b__c")
