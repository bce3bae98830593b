"""The bridge's tools as the official client sees them."""

import base64
import json
from typing import Any

from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.bridge.clients import mcp_of
from tests.server.bridge.scripted_tools import PIXEL, ScriptedTools
from tests.server.hosting import Hosted
from tests.server.playing import played

OWN = ["event", "history_page", "knowledge_retrieve", "list_assets", "tool_detail", "tool_call"]


def said(result: Any) -> str:
    return str(result.content[0].text)


async def test_its_tools_are_listed_with_schemas_and_the_agents_by_their_own_names(
    host: Hosted, runtime: FakeRuntime
) -> None:
    async def script(run: FakeRun) -> None:
        async with mcp_of(run) as client:
            listed = (await client.list_tools()).tools
            names = [tool.name for tool in listed]
            assert names[:6] == OWN
            # One has the name of a tool of the bridge, one letters that clients do not take.
            assert len(set(names)) == len(names) == 6 + 7
            assert "tests_tools_echo" in names and "tests_tools_a_name_with_odd_letters" in names
            assert all(tool.input_schema["type"] == "object" for tool in listed)
            assert (await client.call_tool("tests_tools_event", {"text": "x"})).structured_content == {"said": "x"}

    await played(host, runtime, script)


async def test_the_event_and_what_was_said_before(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        async with mcp_of(run) as client:
            found = (await client.call_tool("event", {})).structured_content
            assert found is not None
            assert found["run_id"] == run.context.run_id
            assert (found["input"]["text"], found["actor"]["name"]) == ("third", "Ada")
            assert found["event"]["type"] == "message.received"
            page = (await client.call_tool("history_page", {"limit": 2})).structured_content
            assert page is not None and page["has_more"]
            assert [item["content"] for item in page["items"]] == ["done", "third"]
            older = await client.call_tool("history_page", {"limit": 100, "before": page["before_cursor"]})
            assert older.structured_content is not None and not older.structured_content["has_more"]
            assert [item["content"] for item in older.structured_content["items"]] == ["first", "done", "second"]
            assert json.loads(said(older)) == older.structured_content
            wrong = await client.call_tool("history_page", {"limit": 101})
            assert wrong.is_error and said(wrong).startswith("INVALID_FIELD: ") and "arguments.limit" in said(wrong)
            forged = await client.call_tool("history_page", {"before": "forged"})
            assert forged.is_error and said(forged).startswith("INVALID_CURSOR: ")
            foreign = await client.call_tool("event", {"event_id": "evt_of_somebody_else"})
            assert foreign.is_error and said(foreign).startswith("NOT_FOUND: ")

    for text in ("first", "second"):
        await played(host, runtime, _nothing, text)
    await played(host, runtime, script, "third")


async def test_assets_details_and_calls(host: Hosted, runtime: FakeRuntime, tools: ScriptedTools) -> None:
    async def script(run: FakeRun) -> None:
        async with mcp_of(run) as client:
            found = (await client.call_tool("list_assets", {})).structured_content
            assert found is not None
            assert found["tools"]["total"] == len(tools.names)
            assert "demo" in [one["model_id"] for one in found["models"]["items"]]
            page = (
                await client.call_tool("list_assets", {"kind": "tools", "offset": 1, "limit": 2})
            ).structured_content
            assert page is not None and (len(page["items"]), page["has_more"]) == (2, True)
            everything = json.dumps(found)
            assert run.start.run_token not in everything and run.start.bridge_token not in everything
            name = "plugin:tests/tools/echo"
            detail = (await client.call_tool("tool_detail", {"name": name})).structured_content
            assert detail is not None and detail["parameters"]["properties"] == {"text": {"type": "string"}}
            for way in (name, "tests_tools_echo"):
                answer = await client.call_tool("tool_call", {"name": way, "arguments": {"text": "hi"}})
                assert (said(answer), answer.structured_content) == ("echo: hi", {"said": "hi"})
            absent = await client.call_tool("tool_call", {"name": "exec", "arguments": {}})
            assert absent.is_error and said(absent).startswith("NOT_FOUND: ")
            unfit = await client.call_tool("tests_tools_echo", {"text": 7})
            assert unfit.is_error and said(unfit).startswith("INVALID_FIELD: ")
            failed = await client.call_tool("tests_tools_fail", {})
            assert failed.is_error and said(failed) == "it did not work"

    run = await played(host, runtime, script)
    notes = [e.recorded.summary for e in await host.watch(run.run_id) if e.WhichOneof("kind") == "recorded"]
    assert "tool_call plugin:tests/tools/echo: ok" in notes and "tests_tools_fail: error" in notes


async def test_pictures_are_shown_and_files_are_resources(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        async with mcp_of(run) as client:
            answer = await client.call_tool("tests_tools_picture", {})
            kinds = [block.type for block in answer.content]
            assert kinds == ["text", "image", "resource_link", "resource_link"]
            links: Any = answer.content[2:]
            assert [one.mime_type for one in links] == ["image/png", "text/plain"]
            picture: Any = (await client.read_resource(links[0].uri)).contents[0]
            notes: Any = (await client.read_resource(links[1].uri)).contents[0]
            assert base64.b64decode(picture.blob) == PIXEL
            assert notes.text == "some notes"
            assert [one.uri_template for one in (await client.list_resource_templates()).resource_templates]
            assert (await client.list_resources()).resources == []

    await played(host, runtime, script)


async def test_knowledge_is_honestly_not_available(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        async with mcp_of(run) as client:
            answer = await client.call_tool("knowledge_retrieve", {"query": "why?"})
            assert answer.is_error and said(answer).startswith("NOT_AVAILABLE: ")

    await played(host, runtime, script)


async def _nothing(run: FakeRun) -> None:
    return None
