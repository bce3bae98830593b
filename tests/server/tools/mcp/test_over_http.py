"""MCP servers over HTTP, through a real host: made, listed, called, lost and found again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    Reason,
    Stale,
    Unavailable,
    WrongState,
)
from portway.rpc.status import errors_by_meaning
from portway.server.agents.types import ResourcePolicy
from portway.server.outbound.policy import OutboundPolicy
from portway.v1 import run_pull_pb2, tool_pb2, tool_pb2_grpc
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.server.hosting import Hosted, hosted
from tests.server.playing import played
from tests.server.tools.mcp.http_server import HttpServer, http_server
from tests.waiting import PATIENCE, until

LOCAL = OutboundPolicy(private_addresses=True)


@pytest.fixture
async def runtime() -> AsyncIterator[FakeRuntime]:
    async with serve_fake_runtime(FakeRuntime()) as serving:
        yield serving


@pytest.fixture
async def host(tmp_path: Path, runtime: FakeRuntime) -> AsyncIterator[Hosted]:
    async with hosted(tmp_path, runtime, outbound=LOCAL) as serving:
        await serving.set_agent(resource_policy=ResourcePolicy(tools=("mcp:tests/*",)))
        yield serving


@pytest.fixture(params=["http", "sse"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HttpServer]:
    with http_server(tmp_path / "mcp", request.param) as running:
        await running.start()
        yield running


def stub(host: Hosted) -> Any:
    return tool_pb2_grpc.ToolServiceStub(host.channel)


def written(server: HttpServer, **more: Any) -> tool_pb2.McpServer:
    transport = tool_pb2.MCP_TRANSPORT_STREAMABLE_HTTP if server.mode == "http" else tool_pb2.MCP_TRANSPORT_SSE
    return tool_pb2.McpServer(server_id="tests", url=server.url, transport=transport, **more)


async def make(host: Hosted, wanted: tool_pb2.McpServer) -> tool_pb2.RefreshMcpServerResponse:
    """Made and connected."""
    with errors_by_meaning():
        await stub(host).CreateMcpServer(tool_pb2.CreateMcpServerRequest(mcp_server=wanted))
        request = tool_pb2.RefreshMcpServerRequest(server_id=wanted.server_id)
        answer: tool_pb2.RefreshMcpServerResponse = await stub(host).RefreshMcpServer(request)
    return answer


async def get(host: Hosted, server_id: str = "tests") -> tool_pb2.McpServer:
    with errors_by_meaning():
        answer: tool_pb2.GetMcpServerResponse = await stub(host).GetMcpServer(
            tool_pb2.GetMcpServerRequest(server_id=server_id)
        )
    return answer.mcp_server


def asking(tool: str, call_id: str = "", **arguments: Any) -> run_pull_pb2.RunnerServiceCallToolRequest:
    request = run_pull_pb2.RunnerServiceCallToolRequest(name=f"mcp:tests/{tool}", call_id=call_id)
    request.arguments.update(arguments)
    return request


async def result_of(run: FakeRun, request: run_pull_pb2.RunnerServiceCallToolRequest) -> Any:
    return (await run.ask_all("call_tool", request))[-1].call_tool.result


async def test_a_server_is_made_connected_and_its_tools_are_called_by_a_run(
    host: Hosted, runtime: FakeRuntime, server: HttpServer
) -> None:
    made = await make(host, written(server))
    assert made.mcp_server.state == "connected" and made.mcp_server.protocol_version
    names = [tool.name for tool in made.tools]
    assert "mcp:tests/add" in names and made.mcp_server.tool_count == len(names)
    assert all(tool.idempotency == tool_pb2.IDEMPOTENCY_CLASS_NOT_IDEMPOTENT for tool in made.tools)

    async def script(run: FakeRun) -> None:
        assert "mcp:tests/add" in [tool.name for tool in run.context.resources.tools]
        added = await result_of(run, asking("add", a=2, b=3))
        assert added.text == "5" and not added.is_error
        failed = await result_of(run, asking("fail"))
        assert failed.is_error and "fail" in failed.text
        answers = await run.ask_all("call_tool", asking("slow"))
        assert answers[0].call_tool.progress.text == "half" and answers[0].call_tool.progress.fraction == 0.5
        assert answers[-1].call_tool.result.text == "done"

    await played(host, runtime, script)


async def test_what_does_not_fit_the_schema_never_reaches_the_server(
    host: Hosted, runtime: FakeRuntime, server: HttpServer
) -> None:
    await make(host, written(server))

    async def script(run: FakeRun) -> None:
        wrong = await run.ask("call_tool", asking("count", word=5))
        assert wrong.code == 3 and wrong.violations[0].field == "arguments.word"
        missing = await run.ask("call_tool", asking("count"))
        assert missing.code == 3 and "word" in missing.message

    await played(host, runtime, script)
    assert server.counted == []


async def test_secrets_are_masked_kept_by_a_mask_and_never_on_disk_in_the_clear(
    host: Hosted, server: HttpServer, tmp_path: Path
) -> None:
    made = await make(host, written(server, headers={"X-Api-Key": "hush-hush-hush"}))
    assert dict(made.mcp_server.headers) == {"X-Api-Key": "********"}
    shown = await get(host)
    shown.denied_tools.append("die")
    with errors_by_meaning():
        await stub(host).UpdateMcpServer(tool_pb2.UpdateMcpServerRequest(mcp_server=shown))
        again = await stub(host).RefreshMcpServer(tool_pb2.RefreshMcpServerRequest(server_id="tests"))
    assert "mcp:tests/die" not in [tool.name for tool in again.tools]
    with pytest.raises(Stale), errors_by_meaning():
        await stub(host).UpdateMcpServer(tool_pb2.UpdateMcpServerRequest(mcp_server=shown))
    for file in (tmp_path / "host").rglob("*"):
        assert not file.is_file() or b"hush-hush-hush" not in file.read_bytes()


async def test_a_killed_server_says_why_and_is_found_again(
    host: Hosted, runtime: FakeRuntime, server: HttpServer
) -> None:
    await make(host, written(server))
    server.kill()
    with pytest.raises(Unavailable, match="failed"), errors_by_meaning():
        await stub(host).RefreshMcpServer(tool_pb2.RefreshMcpServerRequest(server_id="tests"))
    assert (await get(host)).state in ("failed", "connecting")

    async def away(run: FakeRun) -> None:
        refused = await run.ask("call_tool", asking("add", a=1, b=1))
        assert (refused.code, refused.reason) == (9, Reason.TOOL_UNAVAILABLE) and "tests" in refused.message

    await played(host, runtime, away)
    await server.start()

    async def back(run: FakeRun) -> None:
        assert (await result_of(run, asking("add", a=1, b=1))).text == "2"

    await until(lambda: host.parts.tools.get("mcp:tests/add", "default").availability.available)
    await played(host, runtime, back)


async def test_a_server_that_dies_in_a_call_is_never_called_again(
    host: Hosted, runtime: FakeRuntime, server: HttpServer
) -> None:
    await make(host, written(server))

    async def script(run: FakeRun) -> None:
        lost = await run.ask("call_tool", asking("die", "c1"))
        assert (lost.code, lost.reason) == (9, Reason.EFFECT_UNKNOWN)
        again = await run.ask("call_tool", asking("die", "c1"))
        assert again.reason == Reason.EFFECT_UNKNOWN

    await played(host, runtime, script)
    assert server.counted == ["die"]


async def test_cancelling_a_call_reaches_the_server(host: Hosted, runtime: FakeRuntime, server: HttpServer) -> None:
    await make(host, written(server))

    async def script(run: FakeRun) -> None:
        calling = asyncio.create_task(run.ask("call_tool", asking("count", word="a", wait=True)))
        await until(lambda: server.counted == ["a"])
        await run.cancel_call(run.last_call)
        assert (await calling).code == 1
        await until(lambda: server.counted == ["a", "cancelled"])

    await played(host, runtime, script)


async def test_an_image_becomes_an_artifact_and_a_long_text_too(
    host: Hosted, runtime: FakeRuntime, server: HttpServer
) -> None:
    await make(host, written(server))

    async def script(run: FakeRun) -> None:
        seen = await result_of(run, asking("picture"))
        assert seen.text.startswith("look:\n[file image") and seen.artifacts[0].mime_type == "image/png"
        read = await run.ask_all(
            "read_artifact", run_pull_pb2.RunnerServiceReadArtifactRequest(artifact_id=seen.artifacts[0].artifact_id)
        )
        assert read[0].read_artifact.data.startswith(b"\x89PNG")
        long = await result_of(run, asking("big", size=400_000))
        assert len(long.text) < 70_000
        (whole,) = [one for one in long.artifacts if one.mime_type == "text/plain"]
        assert whole.size > 400_000 and whole.artifact_id in long.text

    await played(host, runtime, script)


async def test_a_tool_that_is_added_is_there_and_hints_count_only_where_they_are_trusted(
    host: Hosted, runtime: FakeRuntime, server: HttpServer
) -> None:
    made = await make(host, written(server, trust_annotations=True))
    classes = {tool.name: tool.idempotency for tool in made.tools}
    assert classes["mcp:tests/look"] == tool_pb2.IDEMPOTENCY_CLASS_READ_ONLY
    assert classes["mcp:tests/add"] == tool_pb2.IDEMPOTENCY_CLASS_NOT_IDEMPOTENT

    async def script(run: FakeRun) -> None:
        await result_of(run, asking("grow"))

    await played(host, runtime, script)
    await until(lambda: any(one.spec.name == "mcp:tests/grown" for one in host.parts.tools.tools("default")))


async def test_servers_are_listed_removed_and_refused_with_every_mistake_named(
    host: Hosted, server: HttpServer
) -> None:
    await make(host, written(server))
    with pytest.raises(Conflict), errors_by_meaning():
        await stub(host).CreateMcpServer(tool_pb2.CreateMcpServerRequest(mcp_server=written(server)))
    bad = tool_pb2.McpServer(server_id="Bad Id", url="ftp://example.org", headers={"Host": "x"})
    with pytest.raises(InvalidInput) as caught, errors_by_meaning():
        await stub(host).CreateMcpServer(tool_pb2.CreateMcpServerRequest(mcp_server=bad))
    assert {one.field for one in caught.value.fields} >= {
        "mcp_server.server_id",
        "mcp_server.url",
        "mcp_server.headers.Host",
    }
    with pytest.raises(WrongState, match="assistant"), errors_by_meaning():
        await stub(host).DeleteMcpServer(tool_pb2.DeleteMcpServerRequest(server_id="tests"))
    await host.set_agent()
    with errors_by_meaning():
        listed = await stub(host).ListMcpServers(tool_pb2.ListMcpServersRequest())
        assert [one.server_id for one in listed.mcp_servers] == ["tests"]
        await stub(host).DeleteMcpServer(tool_pb2.DeleteMcpServerRequest(server_id="tests"))
    with pytest.raises(NotFound):
        await get(host)
    await until(lambda: not any(one.source_id == "mcp:tests" for one in host.parts.tools.tools("default")))


async def test_a_private_address_is_refused_where_the_policy_does_not_allow_it(
    tmp_path: Path, runtime: FakeRuntime, server: HttpServer
) -> None:
    async with hosted(tmp_path, runtime) as strict:
        with pytest.raises(InvalidInput, match="private"):
            await make(strict, written(server))


async def test_a_server_of_the_configuration_file_is_the_files(
    tmp_path: Path, runtime: FakeRuntime, server: HttpServer
) -> None:
    file = tmp_path / "portway.yaml"
    file.write_text(
        "tools:\n  mcp_servers:\n    - {server_id: tests, url: '"
        + server.url
        + "', transport: "
        + ("sse" if server.mode == "sse" else "streamable_http")
        + ", headers: {X-Token: hush}}\n"
    )
    async with hosted(tmp_path, runtime, file=file) as host:
        await until(lambda: any(one.source_id == "mcp:tests" for one in host.parts.tools.tools("default")))
        shown = await get(host)
        assert shown.state == "connected" and dict(shown.headers) == {"X-Token": "********"}
        with pytest.raises(WrongState, match="configuration file"), errors_by_meaning():
            await stub(host).DeleteMcpServer(tool_pb2.DeleteMcpServerRequest(server_id="tests"))
    file.write_text("tools: {mcp_servers: []}\n")
    async with hosted(tmp_path, runtime, file=file) as host:
        with pytest.raises(NotFound):
            await get(host)


async def test_a_host_that_keeps_no_server_waits_for_none(host: Hosted) -> None:
    # Its next look is half a minute away: longer than this waits, and than a starting host may.
    await asyncio.wait_for(host.parts.mcp.fleet.settled(), PATIENCE)
