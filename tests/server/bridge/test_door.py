"""Who gets in, with what, and what nonsense is answered with."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.bridge.clients import a_call, a_request, bearer, http_of, initialize, message_of, session_of, url_of
from tests.server.bridge.scripted_tools import ScriptedTools
from tests.server.hosting import Hosted
from tests.server.playing import played
from tests.waiting import until


def refused(answer: httpx.Response) -> tuple[int, Any]:
    error = answer.json()["error"]
    return answer.status_code, error.get("data", {}).get("reason") or error["code"]


async def test_only_the_runs_own_bridge_token_opens_it(host: Hosted, runtime: FakeRuntime) -> None:
    async def other_script(run: FakeRun) -> None:
        others.append(run)
        await over.wait()

    async def script(run: FakeRun) -> None:
        token = run.start.bridge_token
        wrong = {
            "": "TOKEN_MISSING",
            "nonsense": "TOKEN_INVALID",
            run.start.run_token: "TOKEN_INVALID",
            host.admin_token: "TOKEN_INVALID",
            token[:-1] + ("0" if token[-1] != "0" else "1"): "TOKEN_INVALID",
            token.replace("pw_bridge_", "pw_run_"): "TOKEN_INVALID",
            run.start.run_token.replace("pw_run_", "pw_bridge_"): "TOKEN_INVALID",
        }
        for given, reason in wrong.items():
            async with http_of(run, given) as http:
                answer = await http.post(url_of(run), json=initialize())
                assert refused(answer) == (401, reason), answer.text
                assert answer.headers["www-authenticate"].startswith('Bearer realm="portway"')
                assert token not in answer.text
        async with http_of(run, "") as http:
            # Not in the address, and not as an API key.
            for url, headers in ((f"{url_of(run)}?access_token={token}", {}), (url_of(run), {"x-api-key": token})):
                assert (await http.post(url, json=initialize(), headers=headers)).status_code == 401
        # It opens nothing else.
        async with httpx.AsyncClient(headers=bearer(token), trust_env=False) as client:
            models = await client.get(f"{run.context.runtime.model_gateway_url}/openai/v1/models")
            assert models.status_code == 401
        runtime.script = other_script
        asking = asyncio.create_task(host.asked("hi", chat="another"))
        await until(lambda: bool(others))
        async with http_of(run) as http, http_of(others[0]) as other:
            session = await session_of(http, url_of(run))
            # The session of a run is none of another run's.
            answer = await other.post(url_of(run), json=a_request("tools/list"), headers=session)
            assert refused(answer) == (404, "NOT_FOUND")
            assert message_of(await http.post(url_of(run), json=a_request("ping"), headers=session))["result"] == {}
        over.set()
        await asking

    others: list[FakeRun] = []
    over = asyncio.Event()
    await played(host, runtime, script)


async def test_after_the_end_of_the_run_nothing_opens_it_and_open_streams_have_ended(
    host: Hosted, runtime: FakeRuntime, tools: ScriptedTools
) -> None:
    waiting: list[asyncio.Task[httpx.Response]] = []
    sessions: list[Mapping[str, str]] = []

    async def wait(run: FakeRun, accept: str) -> httpx.Response:
        async with http_of(run, accept=accept) as http:
            headers = await session_of(http, url_of(run))
            sessions.append(headers)
            return await http.post(url_of(run), json=a_call("tests_tools_hold"), headers=headers)

    async def script(run: FakeRun) -> None:
        for accept in ("application/json", "application/json, text/event-stream"):
            waiting.append(asyncio.create_task(wait(run, accept)))
        await until(lambda: len(tools.calls) == 2)

    await played(host, runtime, script)
    answers = await asyncio.wait_for(asyncio.gather(*waiting), 10)
    for answer in answers:
        assert answer.status_code == 200 and "RUN_FINISHED" in answer.text
    await until(lambda: len(tools.ended) == 2)
    run = runtime.runs[0]
    async with http_of(run) as http:
        for headers in sessions:
            again = await http.post(url_of(run), json=a_call("tests_tools_echo"), headers=headers)
            assert refused(again) == (401, "TOKEN_INVALID") and "error=" in again.headers["www-authenticate"]


async def test_pages_that_came_by_another_name_are_turned_away(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        cases = {
            ("host", "evil.example"): 421,
            ("host", "127.0.0.1.evil.example:80"): 421,
            ("host", "[::1"): 421,
            ("host", "localhost:1"): 200,
            ("origin", "http://evil.example"): 403,
            ("origin", "null"): 403,
            ("origin", "http://localhost.evil.example"): 403,
            ("origin", "http://localhost:3000"): 200,
            ("origin", "http://[::1]:3000"): 200,
        }
        for (name, value), status in cases.items():
            async with http_of(run, **{name: value}) as http:
                assert (await http.post(url_of(run), json=initialize())).status_code == status, (name, value)

    await played(host, runtime, script)


@pytest.mark.parametrize("asked", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "1999-01-01", "nonsense"])
async def test_versions_are_agreed_on(host: Hosted, runtime: FakeRuntime, asked: str) -> None:
    async def script(run: FakeRun) -> None:
        async with http_of(run) as http:
            url = url_of(run)
            answer = await http.post(url, json=initialize(asked))
            version = answer.json()["result"]["protocolVersion"]
            assert version == (asked if asked.startswith("202") else "2025-11-25")
            session = {"mcp-session-id": answer.headers["mcp-session-id"], "mcp-protocol-version": version}
            done = await http.post(url, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=session)
            assert (done.status_code, done.content) == (202, b"")
            picture = message_of(await http.post(url, json=a_call("tests_tools_picture"), headers=session))["result"]
            kinds = [block["type"] for block in picture["content"]]
            # Older clients know no links.
            newer = version >= "2025-06-18"
            assert kinds == (["text", "image", *["resource_link"] * 2] if newer else ["text", "image", "text", "text"])
            echo = message_of(await http.post(url, json=a_call("tests_tools_echo", text="x"), headers=session))[
                "result"
            ]
            assert ("structuredContent" in echo) is newer
            wrong = await http.post(
                url, json=a_request("ping"), headers=session | {"mcp-protocol-version": "1999-01-01"}
            )
            assert wrong.status_code == 400
            batch = [a_request("ping", "a"), {"jsonrpc": "2.0", "method": "notifications/x"}, a_call("event", 2), 7]
            together = await http.post(url, json=batch, headers=session)
            if version in ("2024-11-05", "2025-03-26"):
                assert [one["id"] for one in together.json()] == ["a", 2, None]
            else:
                assert together.status_code == 400 and together.json()["error"]["code"] == -32600

    await played(host, runtime, script)


NONSENSE: dict[str, tuple[bytes, int, int]] = {
    "no JSON": (b"{nonsense", 400, -32700),
    "nothing": (b"", 400, -32700),
    "deep": (b"[" * 100_000, 400, -32700),
    "not finite": (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": NaN}}', 400, -32700),
    "a long number": (b'{"jsonrpc": "2.0", "id": ' + b"1" * 5000 + b', "method": "ping"}', 400, -32700),
    "not UTF-8": (b'{"jsonrpc": "2.0", "id": 1, "method": "\xff"}', 400, -32700),
    "half a character": (b'{"jsonrpc": "2.0", "id": "\\ud800", "method": "ping"}', 400, -32700),
    "no version": (b'{"id": 1, "method": "ping"}', 400, -32600),
    "a text": (b'"ping"', 400, -32600),
    "an empty batch": (b"[]", 400, -32600),
    "a long batch": (json.dumps([a_request("ping", n) for n in range(17)]).encode(), 400, -32600),
    "id null": (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', 400, -32600),
    "id true": (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', 400, -32600),
    "id a fraction": (b'{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', 400, -32600),
    "id a list": (b'{"jsonrpc": "2.0", "id": [1], "method": "ping"}', 400, -32600),
    "id a long text": (json.dumps(a_request("ping", "x" * 257)).encode(), 400, -32600),
    "method a number": (b'{"jsonrpc": "2.0", "id": 1, "method": 7}', 400, -32600),
    "params a list": (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]}', 400, -32602),
    "no such method": (json.dumps(a_request("sampling/createMessage")).encode(), 200, -32601),
    "a call without a name": (json.dumps(a_request("tools/call")).encode(), 200, -32602),
    "arguments a list": (json.dumps(a_request("tools/call", name="event", arguments=[])).encode(), 200, -32602),
    "an unknown tool": (json.dumps(a_call("exec_everything")).encode(), 200, -32602),
    "a foreign cursor": (json.dumps(a_request("tools/list", cursor="x")).encode(), 200, -32602),
    "a foreign resource": (json.dumps(a_request("resources/read", uri="file:///etc/passwd")).encode(), 200, -32002),
    "an absent artifact": (json.dumps(a_request("resources/read", uri="portway://artifacts/x")).encode(), 200, -32002),
    "a file without an id": (
        json.dumps(a_request("resources/read", uri="portway://files/")).encode(),
        200,
        -32000,
    ),
    "initialize again, wrongly": (json.dumps(a_request("initialize", protocolVersion=7)).encode(), 400, -32602),
}


async def test_nonsense_is_refused_and_harms_nothing(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        async with http_of(run) as http:
            session = await session_of(http, url_of(run))
            for what, (body, status, code) in NONSENSE.items():
                answer = await http.post(url_of(run), content=body, headers=session)
                found = message_of(answer)["error"]
                assert (answer.status_code, found["code"]) == (status, code), (what, answer.text)
            for headers, status in (({"content-type": "text/plain"}, 415), ({"accept": "text/html"}, 406)):
                answer = await http.post(url_of(run), json=a_request("ping"), headers={**session, **headers})
                assert answer.status_code == status
            assert (await http.post(url_of(run), json=a_request("ping"))).status_code == 400
            for method in ("GET", "PUT", "OPTIONS"):
                answer = await http.request(method, url_of(run), headers=session)
                assert (answer.status_code, answer.headers["allow"]) == (405, "POST, DELETE")
            assert (await http.post(url_of(run) + "/else", json=a_request("ping"))).status_code == 404
            # A response to a request that nobody made, and a cancellation of one that nobody made.
            for message in ({"jsonrpc": "2.0", "id": 1, "result": {}}, _cancelled(99), _cancelled([1])):
                assert (await http.post(url_of(run), json=message, headers=session)).status_code == 202
            assert message_of(await http.post(url_of(run), json=a_request("ping"), headers=session))["result"] == {}
            assert (await http.delete(url_of(run), headers=session)).status_code == 200
            assert (await http.post(url_of(run), json=a_request("ping"), headers=session)).status_code == 404

    await played(host, runtime, script)


async def test_ten_thousand_sessions_make_room_for_one_another(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        scope = host.parts.live.of_run("default", run.context.run_id).scope
        async with http_of(run) as http:
            first = await session_of(http, url_of(run))
            for _ in range(200):
                last = await session_of(http, url_of(run))
            assert len(scope.bridge) == 16
            assert (await http.post(url_of(run), json=a_request("ping"), headers=first)).status_code == 404
            assert (await http.post(url_of(run), json=a_request("ping"), headers=last)).status_code == 200
        # The rest of them without the wire.
        for _ in range(10_000):
            scope.bridge.open("2025-06-18", 16)
        assert len(scope.bridge) == 16

    await played(host, runtime, script)


def _cancelled(request_id: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request_id}}
