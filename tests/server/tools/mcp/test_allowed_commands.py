"""Programs that an operator does not allow are refused, when a server is made and when it is connected to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.rpc.errors import InvalidInput, Unavailable
from portway.rpc.status import errors_by_meaning
from portway.v1 import tool_pb2
from tests.fakes.runtime_server import FakeRuntime, serve_fake_runtime
from tests.server.hosting import hosted
from tests.server.tools.mcp.test_over_http import get, stub
from tests.waiting import until_told


@pytest.fixture
async def runtime() -> AsyncIterator[FakeRuntime]:
    async with serve_fake_runtime(FakeRuntime()) as serving:
        yield serving


def written(*command: str, install: tuple[str, ...] = ()) -> tool_pb2.CreateMcpServerRequest:
    return tool_pb2.CreateMcpServerRequest(
        mcp_server=tool_pb2.McpServer(server_id="tests", command=command, install=install)
    )


async def test_only_programs_that_the_operator_allows_become_servers(tmp_path: Path, runtime: FakeRuntime) -> None:
    async with hosted(tmp_path, runtime, mcp_commands=("/usr/bin/python3", "/opt/servers/*")) as host:
        for command, install, field in (
            (("/bin/sh", "-c", "true"), (), "command"),
            (("python3",), (), "command"),
            (("/usr/bin/python3", "x.py"), ("/bin/sh", "-c", "true"), "install"),
        ):
            with pytest.raises(InvalidInput) as refused, errors_by_meaning():
                await stub(host).CreateMcpServer(written(*command, install=install))
            assert refused.value.fields[0].field == f"mcp_server.{field}"
            assert "host.mcp_commands" in refused.value.message
        with errors_by_meaning():
            await stub(host).CreateMcpServer(written("/opt/servers/one"))


async def test_one_that_was_made_before_is_not_started(tmp_path: Path, runtime: FakeRuntime) -> None:
    async with hosted(tmp_path, runtime) as host:
        with errors_by_meaning():
            await stub(host).CreateMcpServer(written("/bin/sh", "-c", "true"))
    async with hosted(tmp_path, runtime, mcp_commands=("/usr/bin/python3",)) as host:

        async def tried() -> bool:
            return (await get(host)).reason != ""

        await until_told(tried)
        assert "host.mcp_commands" in (await get(host)).reason
        with pytest.raises(Unavailable, match="host.mcp_commands"), errors_by_meaning():
            await stub(host).RefreshMcpServer(tool_pb2.RefreshMcpServerRequest(server_id="tests"))
