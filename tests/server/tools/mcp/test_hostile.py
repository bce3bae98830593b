"""Servers that mean harm, over HTTP: each has an outcome that is written down, and the host serves on."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.errors import Unavailable
from portway.server.agents.types import ResourcePolicy
from portway.server.tools.mcp.library import session
from portway.v1 import tool_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.server.hosting import Hosted, hosted
from tests.server.playing import played
from tests.server.tools.mcp.test_over_http import LOCAL, asking, get, make
from tests.waiting import until_told

OBJECT = {"type": "object"}
Answer = Callable[[dict[str, Any]], Any]


def tool(name: str, schema: Any = None) -> dict[str, Any]:
    return {"name": name, "inputSchema": OBJECT if schema is None else schema}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hostile

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append(request.get("method", ""))
        if "id" not in request:
            self._send(202, b"")
        elif self.server.redirect:
            self._send(307, b"", location=self.server.redirect)
        else:
            self._send(200, self.server.body(request))

    def do_GET(self) -> None:
        self._send(405, b"")

    do_DELETE = do_GET

    def _send(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nowhere."""


class Hostile(ThreadingHTTPServer):
    """`answers` by method: a result, or a function of the request that may give raw bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Any] = {}
        self.redirect = ""
        self.seen: list[str] = []

    def body(self, request: dict[str, Any]) -> bytes:
        answer = self.answers.get(request["method"])
        if request["method"] == "initialize" and answer is None:
            version = request["params"]["protocolVersion"]
            info = {"name": "hostile", "version": "1"}
            answer = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, bytes):
            return answer
        said = {"result": answer} if answer is not None else {"error": {"code": -32601, "message": "no such method"}}
        return json.dumps({"jsonrpc": "2.0", "id": request["id"], **said}).encode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/mcp"


@contextmanager
def serving() -> Iterator[Hostile]:
    server = Hostile()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[Hostile]:
    with serving() as running:
        yield running


@pytest.fixture
async def runtime() -> AsyncIterator[FakeRuntime]:
    async with serve_fake_runtime(FakeRuntime()) as running:
        yield running


@pytest.fixture
async def host(tmp_path: Path, runtime: FakeRuntime) -> AsyncIterator[Hosted]:
    async with hosted(tmp_path, runtime, outbound=LOCAL) as running:
        await running.set_agent(resource_policy=ResourcePolicy(tools=("mcp:tests/*",)))
        yield running


def written(server: Hostile) -> tool_pb2.McpServer:
    return tool_pb2.McpServer(server_id="tests", url=server.url)


async def test_pages_without_end_are_cut_off(host: Hosted, server: Hostile) -> None:
    def page(request: dict[str, Any]) -> Any:
        number = len(server.seen)
        return {"tools": [tool(f"t{number}")], "nextCursor": str(number)}

    server.answers["tools/list"] = page
    made = await make(host, written(server))
    assert made.mcp_server.tool_count == 100 and "100 pages" in made.mcp_server.problems[0]


async def test_pages_in_a_circle_are_cut_off(host: Hosted, server: Hostile) -> None:
    server.answers["tools/list"] = {"tools": [tool("one")], "nextCursor": "again"}
    made = await make(host, written(server))
    assert any("circles" in one for one in made.mcp_server.problems)


async def test_too_many_tools_are_cut_off(host: Hosted, server: Hostile) -> None:
    server.answers["tools/list"] = {"tools": [tool(f"t{number}") for number in range(600)]}
    made = await make(host, written(server))
    assert made.mcp_server.tool_count == 500 and "500 tools" in made.mcp_server.problems[0]


async def test_tools_that_cannot_be_used_are_left_out_with_the_reason(host: Hosted, server: Hostile) -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(60):
        deep = {"type": "object", "properties": {"a": deep}}
    server.answers["tools/list"] = {
        "tools": [
            tool("fine"),
            tool("any", {"type": "object", "additionalProperties": 5}),
            tool("away", {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1/schema.json"}}}),
            tool("deep", deep),
            tool("large", {"type": "object", "description": "x" * 70_000}),
            tool("fine"),
            tool("no name at all"),
        ]
    }
    made = await make(host, written(server))
    assert [one.name for one in made.tools] == ["mcp:tests/fine"]
    said = "\n".join(made.mcp_server.problems)
    for word in ("the schema is none", "127.0.0.1", "40 levels", "65536 bytes", "two tools", "letters"):
        assert word in said, (word, said)


async def test_a_schema_that_is_no_object_makes_the_listing_unreadable(host: Hosted, server: Hostile) -> None:
    server.answers["tools/list"] = {"tools": [tool("fine"), tool("list", {"type": "array"})]}
    with pytest.raises(Unavailable, match="not readable.*object"):
        await make(host, written(server))


async def test_a_pattern_that_takes_for_ever_elsewhere_is_checked_at_once(
    host: Hosted, runtime: FakeRuntime, server: Hostile
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    server.answers["tools/list"] = {"tools": [tool("match", schema)]}
    await make(host, written(server))

    async def script(run: FakeRun) -> None:
        refused = await run.ask("call_tool", asking("match", a="a" * 50_000 + "!"))
        assert refused.code == 3 and refused.violations[0].field == "arguments.a"

    await played(host, runtime, script)
    assert "tools/call" not in server.seen


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'"text"', b'{"jsonrpc": "2.0", "id": 1, "result": 5}', b"\xff\xfe", b"[" * 100_000],
    ids=["open", "list", "text", "number", "bytes", "deep"],
)
async def test_answers_that_are_no_messages_end_the_try_with_a_reason(
    host: Hosted, server: Hostile, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LIST_SECONDS", 1.0)
    server.answers["tools/list"] = lambda _: body
    with pytest.raises(Unavailable, match="failed"):
        await make(host, written(server))
    assert (await get(host)).reason


async def test_an_initialize_that_hangs_ends_the_try(
    host: Hosted, server: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "HANDSHAKE_SECONDS", 0.5)
    free = threading.Event()

    def wait(request: dict[str, Any]) -> bytes:
        free.wait()
        return b"{}"

    server.answers["server/discover"] = server.answers["initialize"] = wait
    try:
        with pytest.raises(Unavailable, match="did not agree"):
            await make(host, written(server))
    finally:
        free.set()


async def test_a_result_without_end_is_refused_and_the_call_is_not_made_twice(
    host: Hosted, runtime: FakeRuntime, server: Hostile
) -> None:
    server.answers["tools/list"] = {"tools": [tool("flood")]}
    server.answers["tools/call"] = lambda request: (
        b'{"jsonrpc": "2.0", "id": %d, "result": {"content": [{"type": "text", "text": "' % request["id"]
        + b"x" * 100_000_000
        + b'"}]}}'
    )
    await make(host, written(server))

    async def script(run: FakeRun) -> None:
        first = await run.ask("call_tool", asking("flood", "c1"))
        assert first.code == 9 and first.reason == "EFFECT_UNKNOWN", first
        await run.ask("call_tool", asking("flood", "c1"))

    await played(host, runtime, script)
    assert server.seen.count("tools/call") == 1


async def test_a_redirect_to_a_private_address_is_not_followed(tmp_path: Path, runtime: FakeRuntime) -> None:
    with serving() as secret, serving() as server:
        server.redirect = f"http://localhost:{secret.server_address[1]}/mcp"
        file = tmp_path / "portway.yaml"
        # The file may name a private address; where it leads to is another one.
        file.write_text(f"tools:\n  mcp_servers:\n    - {{server_id: tests, url: '{server.url}'}}\n")
        async with hosted(tmp_path, runtime, file=file) as host:

            async def refused() -> bool:
                return (await get(host)).state == "failed"

            await until_told(refused)
        assert server.seen and not secret.seen
