"""The native tools in a real sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from portway.clients.box import Box
from portway.rpc.errors import Conflict, Reason, Unavailable, WrongState
from portway.server.models import demo
from portway.server.models.config import DemoConfig
from portway.server.models.types import (
    Message,
    MessageRole,
    ModelRequest,
    TextPart,
    ToolCallPart,
    ToolDefinition,
    ToolResultPart,
)
from portway.server.tools import box_client
from portway.server.tools.box_client import BoxClient
from portway.server.tools.box_link import BoxLink
from portway.server.tools.native import NativeTools
from portway.server.tools.native_specs import SPECS
from portway.server.tools.registry import ToolRegistry
from portway.server.tools.session_name import SessionFacts, session_name
from portway.server.tools.types import BoxSession, ToolCall, ToolResult, ToolScope
from tests.box import roots
from tests.sandbox import why_no_sandbox
from tests.server.tools.real_box import RealBox, running_box
from tests.waiting import PATIENCE, until_told


@pytest.fixture(scope="module")
def real_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBox]:
    if reason := why_no_sandbox():
        pytest.skip(f"no sandbox on this machine: {reason}")
    with running_box(tmp_path_factory.mktemp("box")) as box:
        yield box


class Desk:
    """The tools of one agent in one sandbox of its own."""

    def __init__(self, client: Box, link: BoxLink, name: str, image: str = "") -> None:
        session = session_name("default", "assistant", "", SessionFacts(conversation_id=name))
        self.scope = ToolScope("default", "run_1", BoxSession("default", session, image=image))
        self.registry = ToolRegistry([NativeTools(BoxClient(client), link.availability)])

    async def call(self, name: str, effect: str = "eff_1", **arguments: object) -> ToolResult:
        async with aclosing(self.registry.call(self.scope, ToolCall(name, arguments, effect))) as events:
            *_, last = [event async for event in events]
        assert isinstance(last, ToolResult)
        return last


@pytest.fixture
async def desk(real_box: RealBox, request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    async with Box(real_box.address, token=real_box.token) as client:
        link = BoxLink(client.status)
        await link.refresh()
        assert link.availability().available, link.availability().reason
        yield Desk(client, link, request.node.name)


async def test_a_command_runs_and_its_files_stay(desk: Desk) -> None:
    made = await desk.call("exec", "eff_1", command="echo hi > here; echo seen; echo wrong >&2; exit 3")
    assert made.text == "exit code 3\nseen\n[stderr]\nwrong"
    later = await desk.call("exec", "eff_2", command="cat here; pwd")
    assert later.text == "exit code 0\nhi\n/workspace"
    assert (await desk.call("read", path="here")).text == "1\thi"


async def test_an_agent_works_in_the_image_that_its_policy_names(real_box: RealBox) -> None:
    async def whole() -> AsyncIterator[bytes]:
        yield roots.root_tar()

    async with Box(real_box.address, token=real_box.operator_token) as operator:
        await operator.import_image("agents:1", whole())
    async with Box(real_box.address, token=real_box.token) as client:
        link = BoxLink(client.status)
        await link.refresh()
        desk = Desk(client, link, "in-an-image", image="agents:1")
        assert (await desk.call("exec", "eff_1", command="cat /etc/issue")).text == "exit code 0\nhand-made"
        # The same sandbox, asked for with what it was not made with: the difference is named.
        for image, reason in (("", ""), ("agents:2", "spec.image")):
            other = Desk(client, link, "in-an-image", image=image)
            if not reason:
                assert "hand-made" in (await other.call("exec", "eff_2", command="cat /etc/issue")).text
                continue
            with pytest.raises(WrongState, match=reason) as refused:
                await other.call("exec", "eff_3", command="true")
            assert [violation.field for violation in refused.value.fields] == ["spec.image"]


async def test_a_command_that_takes_too_long_is_killed(desk: Desk) -> None:
    result = await desk.call("exec", command="echo begun; sleep 60", timeout_seconds=0.5)
    assert result.is_error
    assert "time was over" in result.text
    assert result.text.endswith("begun")


async def test_a_long_output_is_cut_in_the_middle(desk: Desk) -> None:
    result = await desk.call("exec", command="seq 1 20000")
    assert result.text.startswith("exit code 0\n1\n2\n3\n")
    assert result.text.endswith("\n19999\n20000")
    assert "bytes left out …]" in result.text
    assert len(result.text) < 17_000


async def test_files_are_written_edited_and_found(desk: Desk) -> None:
    assert "wrote 12 bytes" in (await desk.call("write", path="src/a.py", content="one\ntwo\nend\n")).text
    await desk.call("write", path="notes.txt", content="two")
    assert (await desk.call("edit", path="src/a.py", old_text="two", new_text="2")).text.startswith("replaced 1 place")
    missing = await desk.call("edit", path="src/a.py", old_text="two", new_text="2")
    assert missing.is_error
    assert (await desk.call("read", path="src/a.py")).text == "1\tone\n2\t2\n3\tend"
    found = await desk.call("glob", pattern="**/*.py")
    assert "src/a.py" in found.text
    assert "notes.txt" not in found.text
    lines = await desk.call("grep", pattern="^t.o$")
    assert "notes.txt:1:two" in lines.text
    assert (await desk.call("read", path="nowhere")).is_error
    outside = await desk.call("read", path="/etc/../../../etc/shadow")
    assert outside.is_error


async def test_one_effect_runs_once_whatever_is_asked_again(desk: Desk) -> None:
    first = await desk.call("exec", "eff_once", command="echo x >> count; wc -l < count")
    again = await desk.call("exec", "eff_once", command="echo x >> count; wc -l < count")
    assert (first.text, again.text, again.replayed) == ("exit code 0\n1", "exit code 0\n1", True)
    with pytest.raises(Conflict):
        await desk.call("exec", "eff_once", command="echo another")
    call = ToolCall("exec", {"command": "echo x >> count; wc -l < count"}, "eff_once")
    assert (await desk.registry.reconcile(desk.scope, call)).text == "exit code 0\n1"
    with pytest.raises(WrongState) as caught:
        await desk.registry.reconcile(desk.scope, ToolCall("exec", {"command": "true"}, "eff_never"))
    assert caught.value.reason == Reason.EFFECT_UNKNOWN


async def test_two_conversations_have_two_sandboxes(desk: Desk, real_box: RealBox) -> None:
    await desk.call("write", path="secret", content="mine")
    async with Box(real_box.address, token=real_box.token) as client:
        link = BoxLink(client.status)
        await link.refresh()
        other = Desk(client, link, "another conversation")
        assert (await other.call("read", path="secret")).is_error


async def test_the_demo_model_runs_a_command_and_reports_its_real_output(desk: Desk) -> None:
    exec_spec = next(spec for spec in SPECS if spec.name == "exec")
    tools = (ToolDefinition(exec_spec.name, exec_spec.description, exec_spec.input_schema),)
    question = Message(MessageRole.USER, (TextPart("run: echo $((6 * 7)) in the sandbox"),))
    provider = demo.DemoProvider(DemoConfig())
    asked = await provider.invoke(demo.DEMO, ModelRequest((question,), tools))
    [part] = [part for part in asked.message.parts if isinstance(part, ToolCallPart)]
    result = await desk.call(part.name, "eff_demo", command="echo $((6 * 7)) in the sandbox")
    turn = Message(MessageRole.TOOL, (ToolResultPart(part.call_id, part.name, result.text, result.is_error),))
    answer = await provider.invoke(demo.DEMO, ModelRequest((question, asked.message, turn), tools))
    assert "exit code 0" in answer.message.text
    assert "42 in the sandbox" in answer.message.text


@asynccontextmanager
async def own_box(folder: Path) -> AsyncIterator[tuple[RealBox, Desk, Box, BoxLink]]:
    """A box that a test may kill."""
    with running_box(folder) as box:
        async with Box(box.address, token=box.token) as client:
            link = BoxLink(client.status)
            await link.refresh()
            yield box, Desk(client, link, "kill"), client, link


async def killed(box: RealBox, client: Box) -> None:
    """Kills the box, and sees that its connection is known to be gone: what is sent before that may have got there."""
    box.kill()

    async def gone() -> bool:
        return not await client.reachable(0)

    await until_told(gone)


async def back_again(box: RealBox, link: BoxLink) -> None:
    """Kills the box, sees that this is noticed, and starts it on the same data."""
    box.kill()
    await link.refresh()
    assert "cannot be reached" in link.availability().reason
    box.start()
    async with asyncio.timeout(PATIENCE):
        while not link.availability().available:
            await link.refresh()


async def test_a_killed_box_still_knows_what_a_command_answered(tmp_path: Path, desk: Desk) -> None:
    async with own_box(tmp_path) as (box, mine, _, link):
        assert (await mine.call("exec", "eff_done", command="echo once")).text == "exit code 0\nonce"
        await back_again(box, link)
        call = ToolCall("exec", {"command": "echo once"}, "eff_done")
        assert (await mine.registry.reconcile(mine.scope, call)).text == "exit code 0\nonce"
        assert (await mine.call("exec", "eff_new", command="echo again")).text.endswith("again")


async def test_a_command_that_was_running_when_the_box_was_killed_is_unknown_and_not_run_again(
    tmp_path: Path, desk: Desk
) -> None:
    async with own_box(tmp_path) as (box, mine, client, link):
        running = asyncio.create_task(mine.call("exec", "eff_lost", command="sleep 30"))
        async with asyncio.timeout(PATIENCE):
            while (await client.status()).running_count == 0:
                assert not running.done()
        await back_again(box, link)
        with pytest.raises(Unavailable):
            await running
        with pytest.raises(WrongState) as found:
            await mine.registry.reconcile(mine.scope, ToolCall("exec", {"command": "sleep 30"}, "eff_lost"))
        with pytest.raises(WrongState) as repeated:
            await mine.call("exec", "eff_lost", command="sleep 30")
        assert found.value.reason == repeated.value.reason == Reason.EFFECT_UNKNOWN


async def test_a_box_that_is_being_started_anew_is_waited_for(
    tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That it is waited for is tried here, and not how long: on a busy machine a start may take longer than that.
    monkeypatch.setattr(box_client, "_AWAY_SECONDS", 60.0)
    async with own_box(tmp_path) as (box, mine, client, _):
        await mine.call("exec", "eff_before", command="true")
        await killed(box, client)
        running = asyncio.create_task(mine.call("exec", "eff_meanwhile", command="echo ran"))
        known = ToolCall("exec", {"command": "true"}, "eff_before")
        asking = asyncio.create_task(mine.registry.reconcile(mine.scope, known))
        await asyncio.to_thread(box.start)
        assert (await running).text.endswith("ran")
        assert (await asking).text.startswith("exit code 0")


async def test_a_command_for_a_box_that_nobody_reaches_is_known_not_to_have_run(
    tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(box_client, "_AWAY_SECONDS", 0.2)
    async with own_box(tmp_path) as (box, mine, client, _):
        await mine.call("exec", "eff_before", command="true")
        await killed(box, client)
        with pytest.raises(WrongState, match="nothing was run") as refused:
            await mine.call("exec", "eff_after", command="true")
        assert refused.value.reason == Reason.TOOL_UNAVAILABLE
