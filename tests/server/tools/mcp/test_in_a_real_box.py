"""MCP servers that are programs: each in a box session of its own, lost and found again, never two of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from portway.clients.box import Box
from portway.rpc.errors import NotFound, PortwayError, Reason
from portway.rpc.status import errors_by_meaning
from portway.server.agents.types import ResourcePolicy
from portway.v1 import process_pb2, tool_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.sandbox import why_no_sandbox
from tests.server.hosting import Hosted, hosted
from tests.server.playing import played
from tests.server.tools.mcp.boxed_server import PACKAGES, BoxedServer, why_not_here
from tests.server.tools.mcp.test_over_http import asking, get, make, result_of, stub
from tests.server.tools.real_box import RealBox, running_box
from tests.waiting import until, until_told

RUNNING = (process_pb2.PROCESS_STATE_RUNNING, process_pb2.PROCESS_STATE_RESTARTING)


@pytest.fixture
def real_box(tmp_path: Path) -> Iterator[RealBox]:
    if reason := why_no_sandbox() or why_not_here():
        pytest.skip(f"no MCP server in a sandbox of this machine: {reason}")
    (tmp_path / "box").mkdir()
    (tmp_path / "seen").mkdir()
    with running_box(tmp_path / "box", [tmp_path / "seen", PACKAGES]) as box:
        yield box


@pytest.fixture
def server(real_box: RealBox, tmp_path: Path) -> BoxedServer:
    return BoxedServer(tmp_path / "seen" / "notes")


@pytest.fixture
async def runtime() -> AsyncIterator[FakeRuntime]:
    async with serve_fake_runtime(FakeRuntime()) as serving:
        yield serving


@pytest.fixture
async def host(tmp_path: Path, runtime: FakeRuntime, real_box: RealBox) -> AsyncIterator[Hosted]:
    box: Any = real_box
    async with hosted(tmp_path, runtime, box=box) as serving:
        await serving.set_agent(resource_policy=ResourcePolicy(tools=("mcp:tests/*",)))
        await until(lambda: serving.parts.box_link.availability().available)
        yield serving


async def running(box: RealBox) -> list[str]:
    """Processes of the server that run now."""
    async with Box(box.address, token=box.token) as client:
        try:
            found = await client.list_processes("mcp:tests", "default")
        except NotFound:
            return []
    return [one.process_id for one in found if one.state in RUNNING]


async def connected(host: Hosted) -> bool:
    return (await get(host)).state == "connected"


async def calls(host: Hosted, runtime: FakeRuntime, word: str) -> None:
    async def script(run: FakeRun) -> None:
        result = await result_of(run, asking("count", word=word))
        assert result.text == f"counted {word}"

    await played(host, runtime, script)


async def test_its_tools_are_called_in_a_session_of_its_own(
    host: Hosted, runtime: FakeRuntime, real_box: RealBox, server: BoxedServer
) -> None:
    made = await make(host, server.written())
    assert made.mcp_server.state == "connected" and "mcp:tests/add" in [tool.name for tool in made.tools]

    async def script(run: FakeRun) -> None:
        assert (await result_of(run, asking("add", a=2, b=3))).text == "5"
        # More than the box keeps of a process's output: nothing of it is lost.
        long = await result_of(run, asking("big", size=3_000_000))
        (whole,) = [one for one in long.artifacts if one.mime_type == "text/plain"]
        assert whole.size >= 3_000_000
        assert (await result_of(run, asking("count", word="w" * 600_000))).text.startswith("counted www")

    await played(host, runtime, script)
    assert len(await running(real_box)) == 1


async def test_a_program_that_ends_is_started_again_and_a_lost_call_is_not_made_twice(
    host: Hosted, runtime: FakeRuntime, real_box: RealBox, server: BoxedServer
) -> None:
    await make(host, server.written())

    async def script(run: FakeRun) -> None:
        lost = await run.ask("call_tool", asking("die", "c1"))
        assert (lost.code, lost.reason) == (9, Reason.EFFECT_UNKNOWN)
        again = await run.ask("call_tool", asking("die", "c1"))
        assert again.reason == Reason.EFFECT_UNKNOWN

    await played(host, runtime, script)
    assert server.counted == ["die"]
    await until_told(lambda: connected(host))
    await calls(host, runtime, "after")
    assert server.counted == ["die", "after"] and len(await running(real_box)) == 1


async def test_a_killed_box_comes_back_with_one_program(
    host: Hosted, runtime: FakeRuntime, real_box: RealBox, server: BoxedServer
) -> None:
    await make(host, server.written())
    await calls(host, runtime, "before")
    real_box.kill()

    async def lost() -> bool:
        return (await get(host)).state != "connected"

    async def away(run: FakeRun) -> None:
        refused = await run.ask("call_tool", asking("count", "away", word="away"))
        assert refused.code == 9 and refused.reason in (Reason.TOOL_UNAVAILABLE, Reason.EFFECT_UNKNOWN)

    await until_told(lost)
    await played(host, runtime, away)
    await asyncio.to_thread(real_box.start)
    await until_told(lambda: connected(host))
    await calls(host, runtime, "after")
    assert server.counted == ["before", "after"] and len(await running(real_box)) == 1


async def test_a_host_that_comes_back_takes_up_the_living_program_and_stops_older_ones(
    tmp_path: Path, runtime: FakeRuntime, real_box: RealBox, server: BoxedServer
) -> None:
    """What a killed host leaves behind are processes, which this test puts there itself."""
    box: Any = real_box
    async with hosted(tmp_path, runtime, box=box) as host:
        await host.set_agent(resource_policy=ResourcePolicy(tools=("mcp:tests/*",)))
        await until(lambda: host.parts.box_link.availability().available)
        await make(host, server.written())
        (process_id,) = await running(real_box)
    assert await running(real_box) == []
    prefix = process_id.rsplit("-", 2)[0]
    living, older = f"{prefix}-r1-0123456789ab", f"{prefix}-r0-0123456789ab"
    written = server.written()
    command = process_pb2.Command(argv=process_pb2.Argv(args=written.command), env=written.env)
    async with Box(real_box.address, token=real_box.token) as client:
        for name, line in ((living, command), (older, process_pb2.Command(shell="sleep 600"))):
            await client.processes.StartProcess(
                process_pb2.StartProcessRequest(
                    session_id="mcp:tests", workspace_id="default", process_id=name, command=line
                )
            )
        attached = client.processes.AttachProcess()
        start = process_pb2.AttachStart(session_id="mcp:tests", workspace_id="default", process_id=living)
        await attached.write(process_pb2.AttachProcessRequest(attach=start))
        # The host before this one was killed amid a call, and amid a line.
        for piece in (INITIALIZE, INITIALIZED, COUNT, b'{"jsonrpc": "2.0", "id": 4, "meth'):
            await attached.write(process_pb2.AttachProcessRequest(stdin=piece))
        await until(lambda: server.counted == ["before"])
        attached.cancel()
    async with hosted(tmp_path, runtime, box=box) as host:
        await until_told(lambda: connected(host))
        assert await running(real_box) == [living]
        await calls(host, runtime, "after")
        assert server.counted == ["before", "after"]


INITIALIZE = (
    b'{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25", '
    b'"capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}}\n'
)
INITIALIZED = b'{"jsonrpc": "2.0", "method": "notifications/initialized"}\n'
COUNT = (
    b'{"jsonrpc": "2.0", "id": 2, "method": "tools/call", '
    b'"params": {"name": "count", "arguments": {"word": "before", "wait": true}}}\n'
)


async def test_disabling_and_deleting_stop_the_program(host: Hosted, real_box: RealBox, server: BoxedServer) -> None:
    made = await make(host, server.written())

    async def none_runs() -> bool:
        return await running(real_box) == []

    shown = made.mcp_server
    shown.disabled = True
    with errors_by_meaning():
        await stub(host).UpdateMcpServer(tool_pb2.UpdateMcpServerRequest(mcp_server=shown))
    await until_told(none_runs)
    assert (await get(host)).state == "disabled"
    shown = await get(host)
    shown.disabled = False
    with errors_by_meaning():
        await stub(host).UpdateMcpServer(tool_pb2.UpdateMcpServerRequest(mcp_server=shown))
    await until_told(lambda: connected(host))
    assert len(await running(real_box)) == 1
    await host.set_agent()
    with errors_by_meaning():
        await stub(host).DeleteMcpServer(tool_pb2.DeleteMcpServerRequest(server_id="tests"))
    await until_told(none_runs)


async def in_session(box: RealBox, session_id: str, line: str) -> str:
    """What a shell in a session of the box says; empty where there is no such session."""
    async with Box(box.address, token=box.token) as client:
        request = process_pb2.ExecOnceRequest(
            session_id=session_id, workspace_id="default", command=process_pb2.Command(shell=line)
        )
        with suppress(NotFound), errors_by_meaning():
            return (await client.processes.ExecOnce(request)).stdout.decode()
    return ""


async def test_what_a_server_needs_is_installed_once_and_again_when_it_changes(
    host: Hosted, runtime: FakeRuntime, real_box: RealBox, server: BoxedServer
) -> None:
    written = server.written()
    # Once it is not here, the program cannot start.
    written.install[:] = ["/bin/sh", "-c", "echo installed >> log; cp /opt/programs/server_program.py ."]
    written.command[1] = "server_program.py"
    await make(host, written)
    folder = "/workspace/.mcp/tests"
    assert await in_session(real_box, "mcp:tests", f"cat {folder}/log") == "installed\n"

    async def script(run: FakeRun) -> None:
        await run.ask("call_tool", asking("die", "c1"))

    async def another_one() -> bool:
        now = await running(real_box)
        return len(now) == 1 and now != before and await connected(host)

    before = await running(real_box)
    await played(host, runtime, script)
    await until_told(another_one)
    await calls(host, runtime, "after")
    assert await in_session(real_box, "mcp:tests", f"cat {folder}/log") == "installed\n"
    shown = await get(host)
    shown.install[2] += " # changed"
    with errors_by_meaning():
        await stub(host).UpdateMcpServer(tool_pb2.UpdateMcpServerRequest(mcp_server=shown))

    async def twice() -> bool:
        return await in_session(real_box, "mcp:tests", f"cat {folder}/log") == "installed\ninstalled\n"

    await until_told(twice)


async def test_servers_share_a_session_by_name_and_leave_it_one_by_one(
    host: Hosted, runtime: FakeRuntime, real_box: RealBox, server: BoxedServer
) -> None:
    shared = "mcp-shared:support"
    await make(host, server.written(box_session="support"))
    other = server.written(box_session="support")
    other.server_id = "others"
    with errors_by_meaning():
        await stub(host).CreateMcpServer(tool_pb2.CreateMcpServerRequest(mcp_server=other))
        await stub(host).RefreshMcpServer(tool_pb2.RefreshMcpServerRequest(server_id="others"))
    assert await in_session(real_box, shared, "ls /workspace/.mcp") == "others\ntests\n"
    await calls(host, runtime, "word")
    with errors_by_meaning():
        await stub(host).DeleteMcpServer(tool_pb2.DeleteMcpServerRequest(server_id="others"))

    async def one_is_left() -> bool:
        return await in_session(real_box, shared, "ls /workspace/.mcp") == "tests\n"

    await until_told(one_is_left)
    await calls(host, runtime, "again")
    await host.set_agent()
    with errors_by_meaning():
        await stub(host).DeleteMcpServer(tool_pb2.DeleteMcpServerRequest(server_id="tests"))

    async def nothing_is_left() -> bool:
        return await in_session(real_box, shared, "echo here") == ""

    await until_told(nothing_is_left)


async def test_a_server_whose_mounts_change_is_started_with_the_new_ones(
    host: Hosted, runtime: FakeRuntime, real_box: RealBox, server: BoxedServer
) -> None:
    await make(host, server.written())
    shown = await get(host)
    shown.mounts.add().CopyFrom(shown.mounts[0])
    shown.mounts[-1].target = "/opt/again"
    with errors_by_meaning():
        await stub(host).UpdateMcpServer(tool_pb2.UpdateMcpServerRequest(mcp_server=shown))
        await stub(host).RefreshMcpServer(tool_pb2.RefreshMcpServerRequest(server_id="tests"))
    assert await in_session(real_box, "mcp:tests", "test -d /opt/again && echo there") == "there\n"
    await calls(host, runtime, "word")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("echo no such word >&2; exit 7", "exit code 7.*no such word"),
        ("while true; do echo this is no message; done", "version"),
        # It waits for the first word: what comes before anybody listens is another failure.
        ("read word; head -c 20000000 /dev/zero", "bytes"),
    ],
)
async def test_a_program_that_is_no_server_says_why(host: Hosted, server: BoxedServer, line: str, why: str) -> None:
    wrong = server.written()
    wrong.command[:] = ["/bin/sh", "-c", line]
    with pytest.raises(PortwayError, match=why):
        await make(host, wrong)
