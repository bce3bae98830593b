"""Programs over stdio that mean harm or are broken: each has its outcome, written down, and the host serves on."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from portway.clients.box import Box
from portway.rpc.errors import NotFound, Reason, Unavailable
from portway.rpc.status import errors_by_meaning
from portway.server.agents.types import ResourcePolicy
from portway.server.tools.mcp import boxed
from portway.server.tools.mcp.library import session
from portway.v1 import file_pb2, session_pb2, tool_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.sandbox import why_no_sandbox
from tests.server.hosting import Hosted, hosted
from tests.server.playing import played
from tests.server.tools.mcp.test_over_http import asking, get, make, result_of
from tests.server.tools.real_box import RealBox, running_box
from tests.waiting import until, until_told

PROGRAM = Path(__file__).with_name("hostile_program.py")
MOST_GROWTH = 64 << 20


@pytest.fixture(scope="module")
def real_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBox]:
    if reason := why_no_sandbox():
        pytest.skip(f"no sandbox on this machine: {reason}")
    folder = tmp_path_factory.mktemp("hostile")
    programs = folder / "programs"
    programs.mkdir()
    (programs / PROGRAM.name).write_bytes(PROGRAM.read_bytes())
    programs.chmod(0o755)
    (folder / "box").mkdir()
    with running_box(folder / "box", [programs]) as box:
        yield box


@pytest.fixture
async def runtime() -> AsyncIterator[FakeRuntime]:
    async with serve_fake_runtime(FakeRuntime()) as running:
        yield running


@pytest.fixture
async def host(tmp_path: Path, runtime: FakeRuntime, real_box: RealBox) -> AsyncIterator[Hosted]:
    box: Any = real_box
    async with hosted(tmp_path, runtime, box=box) as running:
        await running.set_agent(resource_policy=ResourcePolicy(tools=("mcp:tests/*",)))
        await until(lambda: running.parts.box_link.availability().available)
        yield running


def written(box: RealBox, mode: str) -> tool_pb2.McpServer:
    mount = session_pb2.Mount(source=str(box.mount_roots[0]), target="/opt/programs")
    command = ["/usr/bin/python3", f"/opt/programs/{PROGRAM.name}", mode]
    return tool_pb2.McpServer(server_id="tests", command=command, mounts=[mount])


def memory() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def the_text(host: Hosted, runtime: FakeRuntime) -> str:
    """What the tool says."""
    said: list[str] = []

    async def script(run: FakeRun) -> None:
        said.append((await result_of(run, asking("try"))).text)

    await played(host, runtime, script)
    return said[0]


@pytest.mark.parametrize(
    ("mode", "why"), [("silent", "did not agree on a version"), ("lines", "did not agree on a version")]
)
async def test_one_that_never_shakes_hands_is_failed_and_tried_again(
    host: Hosted, real_box: RealBox, monkeypatch: pytest.MonkeyPatch, mode: str, why: str
) -> None:
    monkeypatch.setattr(session, "HANDSHAKE_SECONDS", 1.0)
    before = memory()
    with pytest.raises(Unavailable, match=why):
        await make(host, written(real_box, mode))
    assert (await get(host)).state == "failed"
    assert memory() - before < MOST_GROWTH


async def test_a_line_without_end_ends_the_connection_with_the_reason(host: Hosted, real_box: RealBox) -> None:
    before = memory()
    with pytest.raises(Unavailable, match="8388608 bytes"):
        await make(host, written(real_box, "huge"))
    assert memory() - before < MOST_GROWTH


async def test_a_flood_of_errors_holds_nobody_up(host: Hosted, runtime: FakeRuntime, real_box: RealBox) -> None:
    before = memory()
    await make(host, written(real_box, "errors"))
    assert await the_text(host, runtime) == "fine"
    assert memory() - before < MOST_GROWTH


@pytest.mark.parametrize(
    ("mode", "text"), [("half", "whole again"), ("wrong_id", "the truth"), ("twice", "first"), ("plain", "fine")]
)
async def test_what_is_no_answer_is_passed_over(
    host: Hosted, runtime: FakeRuntime, real_box: RealBox, mode: str, text: str
) -> None:
    await make(host, written(real_box, mode))
    assert await the_text(host, runtime) == text
    assert await the_text(host, runtime) == text


async def test_one_that_dies_amid_a_call_leaves_the_effect_unknown_and_is_started_again(
    host: Hosted, runtime: FakeRuntime, real_box: RealBox
) -> None:
    await make(host, written(real_box, "dies"))

    async def script(run: FakeRun) -> None:
        lost = await run.ask("call_tool", asking("try", "c1"))
        assert lost.reason == Reason.EFFECT_UNKNOWN
        assert (await run.ask("call_tool", asking("try", "c1"))).reason == Reason.EFFECT_UNKNOWN

    await played(host, runtime, script)
    await until_told(lambda: _is(host, "connected"))


async def _is(host: Hosted, state: str) -> bool:
    return (await get(host)).state == state


async def test_what_a_server_asks_of_the_host_is_declined_by_the_protocol(
    host: Hosted, runtime: FakeRuntime, real_box: RealBox
) -> None:
    await make(host, written(real_box, "asks"))
    answers = json.loads(await the_text(host, runtime))
    assert answers.pop("ping") == {}
    # JSON-RPC: no such method, or one that this client does not offer.
    assert set(answers) == {"sampling/createMessage", "elicitation/create", "roots/list", "made/up"}
    assert all(code in (-32601, -32600) for code in answers.values()), answers


async def test_a_changed_list_of_tools_is_read_again(host: Hosted, runtime: FakeRuntime, real_box: RealBox) -> None:
    await make(host, written(real_box, "changes"))
    assert await the_text(host, runtime) == "changed"

    async def two() -> bool:
        return (await get(host)).tool_count == 2

    await until_told(two)


async def test_a_cancelled_call_is_told_to_the_program(host: Hosted, runtime: FakeRuntime, real_box: RealBox) -> None:
    await make(host, written(real_box, "waits"))

    async def script(run: FakeRun) -> None:
        calling = asyncio.create_task(run.ask("call_tool", asking("try", "c1")))
        await until(lambda: run.last_call > 0)
        number = run.last_call
        async with Box(real_box.address, token=real_box.token) as client:

            async def begun() -> bool:
                found = await client.list_processes("mcp:tests", "default")
                return any(one.stderr_bytes >= len("waiting\n") for one in found if one.state == 1)

            await until_told(begun)
            await run.cancel_call(number)
            await calling

            async def told() -> bool:
                place = file_pb2.FilePath(session_id="mcp:tests", path="/workspace/.mcp/tests/cancelled")
                found = b""
                with suppress(NotFound), errors_by_meaning():
                    async for piece in client.files.ReadFile(file_pb2.ReadFileRequest(file=place)):
                        found += piece.data
                return found == b"it is me"

            await until_told(told)

    await played(host, runtime, script)


async def test_a_result_that_is_none_is_an_error_of_the_tool(
    host: Hosted, runtime: FakeRuntime, real_box: RealBox
) -> None:
    await make(host, written(real_box, "no_result"))

    async def script(run: FakeRun) -> None:
        result = await result_of(run, asking("try"))
        assert result.is_error and "not readable" in result.text

    await played(host, runtime, script)


async def test_names_have_at_most_128_characters_of_their_own(host: Hosted, real_box: RealBox) -> None:
    made = await make(host, written(real_box, "names"))
    assert sorted(one.name for one in made.tools) == ["mcp:tests/" + "n" * 128, "mcp:tests/try"]
    assert len(made.mcp_server.problems) == 4


async def test_a_program_has_at_most_500_tools(host: Hosted, real_box: RealBox) -> None:
    made = await make(host, written(real_box, "many"))
    assert made.mcp_server.tool_count == 500 and "500 tools" in made.mcp_server.problems[0]


@pytest.mark.parametrize(
    ("install", "why"),
    [
        ("echo no such package >&2; exit 3", "exit code 3.*no such package"),
        ("kill -9 $$", "was killed"),
        ("exec /no/such/program", "exit code 127"),
    ],
)
async def test_an_installation_that_fails_says_what_and_how(
    host: Hosted, real_box: RealBox, install: str, why: str
) -> None:
    server = written(real_box, "plain")
    server.install[:] = ["/bin/sh", "-c", install]
    with pytest.raises(Unavailable, match=f"could not be installed.*{why}"):
        await make(host, server)


async def test_an_installation_has_its_time_and_happens_once(
    host: Hosted, real_box: RealBox, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxed, "INSTALL_SECONDS", 1)
    slow = written(real_box, "plain")
    slow.install[:] = ["/bin/sh", "-c", "echo still at it; sleep 600"]
    with pytest.raises(Unavailable, match="more than 1 s.*still at it"):
        await make(host, slow)
