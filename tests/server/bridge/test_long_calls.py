"""Calls that take long: progress, cancellation, people who must approve, and programs that go away or do not read."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from portway.server.agents.types import ResourcePolicy
from portway.server.bridge.config import BridgeLimits
from portway.server.tools.types import ToolProgress
from tests.deciding import decide, one_pending
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.bridge.clients import (
    a_call,
    a_request,
    bearer,
    events_of,
    http_of,
    mcp_of,
    message_of,
    session_of,
    url_of,
)
from tests.server.bridge.scripted_tools import ScriptedTools
from tests.server.hosting import Hosted, hosted
from tests.server.playing import played
from tests.waiting import until


async def test_progress_is_told_and_grows(host: Hosted, runtime: FakeRuntime, tools: ScriptedTools) -> None:
    async def script(run: FakeRun) -> None:
        seen: list[tuple[float, float | None, str | None]] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            seen.append((progress, total, message))
            # Three of its own, and signs after them that it goes on.
            if len(seen) >= 5:
                tools.go_on.set()

        async with mcp_of(run) as client:
            answer = await client.call_tool("tests_tools_slow", {}, progress_callback=note)
        assert answer.content[0].text == "slow, and done"  # type: ignore[union-attr]  # it is a text
        assert [one[:2] for one in seen[:3]] == [(25.0, 100.0), (50.0, 100.0), (75.0, 100.0)]
        assert seen[0][2] == "25% done" and seen[4][2] == "75% done"
        assert [one[0] for one in seen] == sorted({one[0] for one in seen})

    await played(host, runtime, script)


async def test_who_wants_no_progress_gets_comments_that_keep_the_connection(
    host: Hosted, runtime: FakeRuntime, tools: ScriptedTools
) -> None:
    async def script(run: FakeRun) -> None:
        async with http_of(run) as http:
            session = await session_of(http, url_of(run))
            body = ""
            async with http.stream("POST", url_of(run), json=a_call("tests_tools_hold"), headers=session) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                async for piece in answer.aiter_text():
                    body += piece
                    if body.count(": still under way") >= 2:
                        tools.go_on.set()
            (message,) = events_of(body)
            assert message["result"]["content"][0]["text"] == "held"

    await played(host, runtime, script)


async def test_a_cancelled_request_ends_its_call_and_has_no_answer(
    host: Hosted, runtime: FakeRuntime, tools: ScriptedTools
) -> None:
    async def script(run: FakeRun) -> None:
        async with http_of(run) as http, http_of(run) as other:
            session, another = await session_of(http, url_of(run)), await session_of(other, url_of(run))
            request_id: Any
            for count, request_id in enumerate(("a", 7), start=1):
                call = a_call("tests_tools_hold", request_id)
                asking = asyncio.create_task(http.post(url_of(run), json=call, headers=session))
                await until(lambda count=count: len(tools.calls) == count)  # type: ignore[misc]  # bound now
                twice = await other.post(url_of(run), json=call, headers=session)
                assert message_of(twice)["error"]["code"] == -32600
                cancel = {
                    "jsonrpc": "2.0",
                    "method": "notifications/cancelled",
                    "params": {"requestId": request_id, "reason": "enough"},
                }
                # The same id in another session is another request.
                assert (await other.post(url_of(run), json=cancel, headers=another)).status_code == 202
                assert not asking.done() and len(tools.ended) == count - 1
                assert (await other.post(url_of(run), json=cancel, headers=session)).status_code == 202
                answer = await asyncio.wait_for(asking, 10)
                assert answer.status_code == 200 and events_of(answer.text) == []
                await until(lambda count=count: len(tools.ended) == count)  # type: ignore[misc]  # bound now

    run = await played(host, runtime, script)
    notes = [e.recorded.summary for e in await host.watch(run.run_id) if e.WhichOneof("kind") == "recorded"]
    assert "tests_tools_hold: cancelled by the client" in notes


async def test_the_official_clients_cancellation_ends_the_call(
    host: Hosted, runtime: FakeRuntime, tools: ScriptedTools
) -> None:
    async def script(run: FakeRun) -> None:
        async with mcp_of(run) as client:
            calling = asyncio.create_task(client.call_tool("tests_tools_hold", {}))
            await tools.begun.wait()
            calling.cancel()
            await until(lambda: bool(tools.ended))
            assert (await client.call_tool("tests_tools_echo", {"text": "x"})).structured_content == {"said": "x"}

    await played(host, runtime, script)


async def test_a_call_that_waits_for_a_person_goes_on_when_it_is_allowed_and_ends_when_it_is_refused(
    host: Hosted, runtime: FakeRuntime, tools: ScriptedTools
) -> None:
    policy = ResourcePolicy(tools=tools.names, approved_tools=("plugin:tests/tools/echo",))
    await host.set_agent(resource_policy=policy)

    async def script(run: FakeRun) -> None:
        async with mcp_of(run) as client:
            for approve in (True, False):
                told: list[str | None] = []
                enough = asyncio.Event()

                async def note(progress: float, total: float | None, message: str | None) -> None:
                    told.append(message)  # noqa: B023 - each round awaits its own
                    if len(told) >= 3:  # noqa: B023 - as above
                        enough.set()  # noqa: B023 - as above

                arguments = {"text": f"approve {approve}"}
                calling = asyncio.create_task(client.call_tool("tests_tools_echo", arguments, progress_callback=note))
                approval = await one_pending(host.runs)
                await enough.wait()
                assert told[0] and "needs a person's approval" in told[0] and told[2] and "waiting" in told[2]
                assert not calling.done()
                await decide(host.runs, approval, approve)
                answer = await calling
                if approve:
                    assert answer.structured_content == {"said": "approve True"}
                else:
                    assert answer.is_error and answer.content[0].text.startswith("APPROVAL_DENIED: ")  # type: ignore[union-attr]

    await played(host, runtime, script)
    assert [call.arguments["text"] for call in tools.calls] == ["approve True"]


async def test_a_program_that_goes_away_ends_its_call(host: Hosted, runtime: FakeRuntime, tools: ScriptedTools) -> None:
    async def script(run: FakeRun) -> None:
        async with http_of(run) as http:
            session = await session_of(http, url_of(run))
            calling = asyncio.create_task(http.post(url_of(run), json=a_call("tests_tools_hold"), headers=session))
            await tools.begun.wait()
            calling.cancel()
            await until(lambda: bool(tools.ended))

    await played(host, runtime, script)


@asynccontextmanager
async def limited(folder: Path, runtime: FakeRuntime, tools: ScriptedTools, **limits: Any) -> AsyncIterator[Hosted]:
    async with hosted(folder, runtime, http_listen="127.0.0.1:0", bridge=BridgeLimits(**limits)) as host:
        await tools.given_to(host)
        yield host


async def test_limits_of_messages_answers_and_calls_at_once(
    tmp_path: Path, runtime: FakeRuntime, tools: ScriptedTools
) -> None:
    async with limited(
        tmp_path, runtime, tools, message_bytes=4000, answer_bytes=3000, calls_per_run=2, direct_tools=6
    ) as host:

        async def script(run: FakeRun) -> None:
            url = url_of(run)
            async with http_of(run) as http:
                session = await session_of(http, url)
                # Seven tools are many here: they are not listed one by one.
                answer = await http.post(url, json=a_request("tools/list"), headers=session)
                listed = message_of(answer)["result"]["tools"]
                assert len(listed) == 6
                large = await http.post(url, content=b'"' + b"x" * 4000 + b'"', headers=session)
                assert (large.status_code, large.json()["error"]["data"]["reason"]) == (413, "PAYLOAD_TOO_LARGE")
                name, text = "plugin:tests/tools/echo", "x" * 2000
                big = await http.post(
                    url, json=a_call("tool_call", name=name, arguments={"text": text}), headers=session
                )
                result = message_of(big)["result"]
                assert result["isError"] and result["content"][0]["text"].startswith("PAYLOAD_TOO_LARGE: ")
                hold = a_call("tool_call", name="plugin:tests/tools/hold")
                waiting = [asyncio.create_task(http.post(url, json=hold | {"id": n}, headers=session)) for n in (1, 2)]
                await until(lambda: len(tools.calls) == 3)
                third = await http.post(url, json=a_request("ping"), headers=session)
                assert (third.status_code, third.headers["retry-after"]) == (429, "1")
                tools.go_on.set()
                assert [message_of(await one)["result"]["isError"] for one in waiting] == [False, False]

        await played(host, runtime, script)


async def test_a_program_that_does_not_read_or_does_not_finish_is_let_go(
    tmp_path: Path, runtime: FakeRuntime, tools: ScriptedTools
) -> None:
    async def flood(call: Any) -> AsyncIterator[Any]:
        while True:
            yield ToolProgress("x" * 1000)

    tools.works["flood"] = flood
    async with limited(tmp_path, runtime, tools, write_seconds=0.3, read_seconds=0.3) as host:

        async def script(run: FakeRun) -> None:
            url = urlsplit(url_of(run))
            async with http_of(run) as http:
                session = await session_of(http, url_of(run))
                call = a_call("tests_tools_flood")
                call["params"]["_meta"] = {"progressToken": "t"}
                body = json.dumps(call).encode()
                head = f"POST {url.path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                given = {**bearer(run.start.bridge_token), **session}
                head += "".join(f"{name}: {value}\r\n" for name, value in given.items())
                reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=1)
                peer: socket.socket = writer.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
                # It never reads: its call ends all the same.
                await until(lambda: tools.ended == ["plugin:tests/tools/flood"])
                writer.close()
                late_reader, late = await asyncio.open_connection(url.hostname, url.port)
                late.write(f"{head}content-length: 100\r\n\r\n{{".encode())
                assert b" 408 " in await asyncio.wait_for(late_reader.readline(), 10)
                late.close()
                assert (await http.post(url_of(run), json=a_request("ping"), headers=session)).status_code == 200

        await played(host, runtime, script)


async def test_many_requests_at_once_are_each_answered(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        async with http_of(run) as http:
            session = await session_of(http, url_of(run))

            async def ask(number: int) -> httpx.Response:
                call = a_call("tests_tools_echo", number, text=str(number))
                return await http.post(url_of(run), json=call, headers=session)

            answers = await asyncio.gather(*(ask(number) for number in range(16)))
            for number, answer in enumerate(answers):
                assert message_of(answer)["id"] == number
                assert message_of(answer)["result"]["structuredContent"] == {"said": str(number)}

    await played(host, runtime, script)
