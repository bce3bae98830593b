"""The native tools against a box over the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from portway.clients.box import Box
from portway.rpc.errors import Conflict, InvalidInput, Reason, Unavailable, WrongState
from portway.server.tools.box_client import BoxClient
from portway.server.tools.native import NativeTools
from portway.server.tools.registry import ToolRegistry
from portway.server.tools.types import Availability, BoxSession, JsonObject, ToolCall, ToolResult, ToolScope
from portway.v1 import process_pb2, session_pb2
from tests.fakes.box_server import HOLD, FakeBox, serve_fake_box

SESSION = BoxSession("default", "default:assistant:group_g1", "offline_readonly", "allow_list", ("example.org:443",))
SCOPE = ToolScope("default", "run_1", SESSION)


def ended(stdout: bytes = b"", stderr: bytes = b"", code: int = 0, left_out: int = 0) -> process_pb2.ExecOnceResponse:
    response = process_pb2.ExecOnceResponse(stdout=stdout, stderr=stderr, stdout_truncated_bytes=left_out)
    response.exit.status = process_pb2.EXIT_STATUS_COMPLETED
    response.exit.exit_code = code
    response.exit.duration.FromMilliseconds(1500)
    return response


def stopped(status: process_pb2.ExitStatus.ValueType) -> process_pb2.ExecOnceResponse:
    response = process_pb2.ExecOnceResponse(stdout=b"part")
    response.exit.status = status
    response.exit.duration.FromMilliseconds(1500)
    return response


class Desk:
    """The tools of one host, connected to a fake box."""

    def __init__(self, box: FakeBox, client: Box) -> None:
        self.box = box
        self.registry = ToolRegistry([NativeTools(BoxClient(client), lambda: Availability(True))])

    async def call(self, name: str, effect: str = "eff_1", **arguments: object) -> ToolResult:
        return await self.call_with(name, arguments, effect)

    async def call_with(
        self, name: str, arguments: JsonObject, effect: str = "eff_1", scope: ToolScope = SCOPE
    ) -> ToolResult:
        async with aclosing(self.registry.call(scope, ToolCall(name, arguments, effect))) as events:
            *_, last = [event async for event in events]
        assert isinstance(last, ToolResult)
        return last

    async def reconcile(self, name: str, effect: str, **arguments: object) -> ToolResult:
        return await self.registry.reconcile(SCOPE, ToolCall(name, arguments, effect))

    @property
    def files(self) -> dict[str, bytes]:
        return self.box.sessions[SESSION.session_id].files


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    box = FakeBox()
    async with serve_fake_box(box) as client:
        yield Desk(box, client)


async def test_exec_gives_the_exit_code_the_output_and_the_errors(desk: Desk) -> None:
    desk.box.will_run("echo hi", ended(b"hi in the sandbox\n", b"careful\n", 3))
    result = await desk.call("exec", command="echo hi")
    assert result.text == "exit code 3\nhi in the sandbox\n[stderr]\ncareful"
    assert not result.is_error
    assert result.data == {
        "status": "completed",
        "exit_code": 3,
        "stdout": "hi in the sandbox",
        "stderr": "careful",
        "stdout_left_out_bytes": 0,
        "stderr_left_out_bytes": 0,
        "duration_seconds": 1.5,
    }


async def test_the_session_is_made_once_with_what_the_policy_says(desk: Desk) -> None:
    desk.box.will_run("a", ended())
    desk.box.will_run("b", ended())
    await desk.call("exec", "eff_1", command="a", working_directory="/workspace/x", timeout_seconds=5)
    await desk.call("exec", "eff_2", command="b")
    [(name, session)] = desk.box.sessions.items()
    assert name == SESSION.session_id
    assert session.spec.profile == "offline_readonly"
    assert session.spec.network.mode == session_pb2.NETWORK_MODE_ALLOW_LIST
    assert list(session.spec.network.allow) == ["example.org:443"]
    first, second = desk.box.requests
    assert (first.workspace_id, first.request_id) == ("default", "eff_1")
    assert (first.command.working_directory, first.command.timeout.seconds) == ("/workspace/x", 5)
    assert second.command.timeout.seconds == 30


async def test_a_command_ends_within_the_time_of_its_call(desk: Desk) -> None:
    desk.box.will_run("a", ended())
    call = ToolCall("exec", {"command": "a", "timeout_seconds": 600}, "eff_1", timeout_seconds=2.5)
    async with aclosing(desk.registry.call(SCOPE, call)) as events:
        assert [type(event) async for event in events] == [ToolResult]
    assert desk.box.requests[0].command.timeout.ToMilliseconds() == 2500


async def test_the_same_effect_runs_once_and_its_result_can_be_asked_for(desk: Desk) -> None:
    desk.box.will_run("touch once", ended(b"done"))
    first = await desk.call("exec", "eff_1", command="touch once")
    again = await desk.call("exec", "eff_1", command="touch once")
    found = await desk.reconcile("exec", "eff_1", command="touch once")
    assert desk.box.ran == ["touch once"]
    assert (first.replayed, again.replayed, found.replayed) == (False, True, True)
    assert first.text == again.text == found.text
    with pytest.raises(Conflict):
        await desk.call("exec", "eff_1", command="another command")


async def test_an_effect_that_nobody_knows_is_said_and_not_run(desk: Desk) -> None:
    desk.box.will_run("touch once", ended())
    await desk.call("exec", "eff_1", command="touch once")
    desk.box.forget_effects()
    with pytest.raises(WrongState) as caught:
        await desk.reconcile("exec", "eff_1", command="touch once")
    assert caught.value.reason == Reason.EFFECT_UNKNOWN
    desk.box.forget_sessions()
    with pytest.raises(WrongState) as caught:
        await desk.reconcile("exec", "eff_1", command="touch once")
    assert caught.value.reason == Reason.EFFECT_UNKNOWN
    with pytest.raises(WrongState, match="cannot be found out"):
        await desk.reconcile("edit", "eff_1", path="a", old_text="a", new_text="b")
    assert desk.box.ran == ["touch once"]


async def test_a_box_that_breaks_off_is_no_result(desk: Desk) -> None:
    desk.box.will_run("x", Unavailable("the connection broke"))
    with pytest.raises(Unavailable):
        await desk.call("exec", command="x")
    assert desk.box.ran == ["x"]


async def test_a_closed_call_ends_at_once(desk: Desk) -> None:
    desk.box.will_run(HOLD, ended())
    calling = asyncio.create_task(desk.call("exec", command=HOLD))
    await desk.box.running.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (stopped(process_pb2.EXIT_STATUS_TIMED_OUT), "killed after 1.5 s"),
        (stopped(process_pb2.EXIT_STATUS_OUT_OF_MEMORY), "more memory than"),
        (stopped(process_pb2.EXIT_STATUS_KILLED), "killed"),
    ],
)
async def test_a_command_that_was_ended_is_an_error_with_what_it_had_printed(
    desk: Desk, answer: process_pb2.ExecOnceResponse, line: str
) -> None:
    desk.box.will_run("x", answer)
    result = await desk.call("exec", command="x")
    assert result.is_error
    assert line in result.text.splitlines()[0]
    assert result.text.endswith("part")


async def test_a_long_output_says_what_is_missing_and_where(desk: Desk) -> None:
    desk.box.will_run("x", ended(b"a" * 60 + b"z" * 40, left_out=1234))
    text = (await desk.call("exec", command="x")).text
    assert text == "exit code 0\n" + "a" * 60 + "\n[… 1234 bytes left out …]\n" + "z" * 40


async def test_output_that_is_not_text_is_replaced_and_not_refused(desk: Desk) -> None:
    desk.box.will_run("x", ended(b"\xff\xfe ok"))
    assert "ok" in (await desk.call("exec", command="x")).text


async def test_a_session_that_expired_is_made_again_and_the_result_says_so(desk: Desk) -> None:
    desk.box.will_run("a", ended())
    desk.box.will_run("b", ended(b"out"))
    await desk.call("exec", "eff_1", command="a")
    desk.box.forget_sessions()
    result = await desk.call("exec", "eff_2", command="b")
    assert result.text == "exit code 0\n(The sandbox is a new one: files of earlier commands are gone.)\nout"
    assert desk.box.ran == ["a", "b"]


async def test_files_are_written_read_edited_and_found(desk: Desk) -> None:
    assert (await desk.call("write", path="a.py", content="one\ntwo\nthree\n")).text == "wrote 14 bytes to a.py"
    assert (await desk.call("write", path="b.txt", content="Two")).text == "wrote 3 bytes to b.txt"
    assert (await desk.call("read", path="a.py")).text == "1\tone\n2\ttwo\n3\tthree"
    middle = await desk.call("read", path="a.py", first_line=2, lines=1)
    assert middle.text == "2\ttwo\n(Lines 2 to 2 of 3.)"
    assert (await desk.call("edit", path="a.py", old_text="two", new_text="2")).text == "replaced 1 place in a.py"
    assert desk.files["a.py"] == b"one\n2\nthree\n"
    assert (await desk.call("glob", pattern="*.py")).text == "a.py\t12 bytes"
    assert (await desk.call("grep", pattern="t", include="*.txt", ignore_case=True)).text == "b.txt:1:Two"
    assert (await desk.call("grep", pattern="nothing")).text == "no line matches"
    more = await desk.call("grep", pattern=".", limit=1)
    assert "there are more" in more.text


async def test_a_large_file_is_written_in_frames_and_read_in_part(desk: Desk) -> None:
    content = "\n".join(f"line {number}" for number in range(60_000))
    await desk.call("write", path="big", content=content)
    assert desk.files["big"] == content.encode()
    text = (await desk.call("read", path="big", first_line=59_999)).text
    assert text == "59999\tline 59998\n60000\tline 59999"
    assert len((await desk.call("read", path="big", lines=5000)).text) < 70_000


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("read", {"path": "missing"}, "no file 'missing'"),
        ("edit", {"path": "a", "old_text": "x", "new_text": "y"}, "occurs 0 times"),
        ("edit", {"path": "a", "old_text": "a", "new_text": "y"}, "occurs 2 times"),
        ("grep", {"pattern": "("}, "no regular expression"),
        ("read", {"path": "a", "first_line": 9}, "has 1 lines"),
        ("read", {"path": "binary"}, "not a text file"),
    ],
)
async def test_what_the_box_refuses_is_told_to_the_model(
    desk: Desk, name: str, arguments: JsonObject, said: str
) -> None:
    await desk.call("write", path="a", content="a a")
    await desk.call("write", path="binary", content="\0\1")
    result = await desk.call_with(name, arguments)
    assert result.is_error
    assert said in result.text


async def test_a_directory_that_is_not_there_is_told_to_the_model(desk: Desk) -> None:
    result = await desk.call("exec", command="ls", working_directory="/nowhere")
    assert result.is_error
    assert desk.box.ran == []


@pytest.mark.parametrize(
    ("name", "arguments", "field"),
    [
        ("exec", {}, "arguments.command"),
        ("exec", {"command": ""}, "arguments.command"),
        ("exec", {"command": 7}, "arguments.command"),
        ("exec", {"command": "x" * 1_100_000}, "arguments.command"),
        ("exec", {"command": "x", "timeout_seconds": 0}, "arguments.timeout_seconds"),
        ("exec", {"command": "x", "timeout_seconds": True}, "arguments.timeout_seconds"),
        ("exec", {"comand": "x"}, "arguments.command"),
        ("exec", {"command": "x", "cwd": "/"}, "arguments.cwd"),
        ("read", {"path": "a", "first_line": 1.5}, "arguments.first_line"),
        ("read", {"path": "a", "lines": 0}, "arguments.lines"),
        ("edit", {"path": "a", "old_text": "", "new_text": ""}, "arguments.old_text"),
        ("edit", {"path": "a", "old_text": "a", "new_text": "b", "everywhere": "yes"}, "arguments.everywhere"),
        ("write", {"path": "a"}, "arguments.content"),
    ],
)
async def test_wrong_arguments_are_named_and_nothing_is_done(
    desk: Desk, name: str, arguments: JsonObject, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await desk.call_with(name, arguments)
    assert [one.field for one in caught.value.fields] == [field]
    assert desk.box.requests == []
    assert desk.box.sessions == {}


async def test_an_agent_without_a_box_and_a_box_without_a_backend_are_not_the_models_fault(desk: Desk) -> None:
    with pytest.raises(WrongState, match="this agent has no box") as caught:
        await desk.call_with("read", {"path": "a"}, scope=ToolScope("default", "run_1"))
    assert caught.value.reason == Reason.TOOL_UNAVAILABLE
    desk.box.session_refusal = "no backend works here"
    with pytest.raises(WrongState, match="no backend works here") as caught:
        await desk.call("read", path="a")
    assert caught.value.reason == Reason.TOOL_UNAVAILABLE
