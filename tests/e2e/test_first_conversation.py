"""The way of a new user: start, say something, have a command run in the sandbox, look at what was recorded."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from portway.clients.dataclass_stubs import on_channel
from portway.clients.host import Accepted, Finished
from portway.clients.run_view import MessageDone, TextAdded, ToolDone
from portway.rpc.channel import open_channel
from portway.stubs.portway import v1 as dataclasses
from portway.v1 import run_pb2
from tests.e2e.stack import Stack, alive, started
from tests.sandbox import needs_sandbox


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with started(tmp_path) as running:
        yield running


@needs_sandbox
async def test_a_message_is_answered_with_the_output_of_a_real_command(stack: Stack) -> None:
    outcome = await stack.portway("send", "run: echo hi in the sandbox; id -u", "--wait")
    assert outcome.code == 0, outcome.err
    assert "hi in the sandbox" in outcome.out
    assert "1000" in outcome.out


@needs_sandbox
async def test_the_answer_comes_in_pieces_and_stands_in_the_transcript(stack: Stack) -> None:
    texts, tools, finished = [], [], None
    async with stack.client() as host:
        async for item in host.chat("run: echo one; echo two", conversation_id="pieces"):
            match item:
                case TextAdded(text=text):
                    texts.append(text)
                case ToolDone(call=call):
                    tools.append(call)
                case Finished():
                    finished = item
                case _:
                    pass
        history = await host.history("pieces")
    assert len(texts) > 1
    assert [call.tool for call in tools] == ["exec"]
    assert "one" in tools[0].result_text
    assert finished is not None and finished.reply is not None
    assert finished.run.state == run_pb2.RUN_STATE_COMPLETED
    assert "".join(texts).strip().endswith(finished.reply.content.strip()[-20:])
    assert [item.content for item in history.items] == ["run: echo one; echo two", finished.reply.content]


async def test_the_same_key_is_one_message_and_another_text_under_it_is_refused(stack: Stack) -> None:
    first = await stack.portway("send", "hello", "--conversation", "keys", "--idempotency-key", "k", "--json")
    again = await stack.portway("send", "hello", "--conversation", "keys", "--idempotency-key", "k", "--json")
    other = await stack.portway("send", "bye", "--conversation", "keys", "--idempotency-key", "k", "--json")
    assert first.json()["duplicate"] is False
    assert again.json() == first.json() | {"duplicate": True}
    assert other.code == 1
    assert "k" in other.err


@needs_sandbox
async def test_every_command_of_the_command_line_works(stack: Stack) -> None:
    sent = (await stack.portway("send", "run: echo from the walk", "--wait", "--json", "--conversation", "walk")).json()
    run_id, event_id = str(sent["run_id"]), str(sent["event_id"])
    assert "from the walk" in str(sent["text"])
    for arguments, said in [
        (("runs", "list"), run_id),
        (("runs", "show", run_id), "completed"),
        (("runs", "watch", run_id), "from the walk"),
        (("runs", "explain", run_id), "manifest"),
        (("runs", "cancel", run_id), "already ended"),
        (("events", "list"), event_id),
        (("events", "show", event_id), "message.received"),
        (("events", "explain", event_id), "binding"),
        (("history", "walk"), "from the walk"),
        (("agents", "list"), "assistant"),
        (("agents", "show", "assistant"), "local-agent"),
        (("bindings", "list"), "assistant"),
        (("plugin", "list"), "portway/local-agent"),
        (("tokens", "list"), "admin"),
        (("status",), "host"),
        (("doctor",), "bubblewrap"),
        (("box", "exec", "--session", "walk", "--", "echo", "straight"), "straight"),
        (("box", "sessions"), "walk"),
    ]:
        outcome = await stack.portway(*arguments)
        assert outcome.code == 0, (arguments, outcome.out, outcome.err)
        assert said in outcome.out, (arguments, outcome.out, outcome.err)


@needs_sandbox
async def test_a_command_in_the_box_gives_its_own_output_and_exit_code(stack: Stack) -> None:
    failed = await stack.portway("box", "exec", "--session", "s", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (failed.code, failed.out, failed.err) == (7, "out\n", "err\n")
    fed = await stack.portway("box", "exec", "--session", "s", "--", "wc", "-c", stdin=b"12345")
    assert fed.out.strip() == "5"
    slow = await stack.portway("box", "exec", "--session", "s", "--timeout", "1", "--", "sleep", "60")
    assert slow.code == 124


async def test_tokens_made_by_the_command_line_work_until_they_are_revoked(stack: Stack) -> None:
    made = (await stack.portway("tokens", "create", "reader", "--role", "viewer", "--json")).json()
    environment = stack.environment() | {"PORTWAY_TOKEN": str(made["secret"])}
    token = made["token"]
    assert isinstance(token, dict)

    async def as_viewer(*arguments: str) -> int:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "portway.clients.cli.main", *arguments),
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return await process.wait()

    assert await as_viewer("runs", "list") == 0
    assert await as_viewer("send", "hello") == 4
    await stack.portway("tokens", "revoke", str(token["token_id"]))
    assert await as_viewer("runs", "list") == 4


async def test_the_dataclass_stubs_speak_to_the_live_servers(stack: Stack) -> None:
    async with open_channel(stack.host_address, token=stack.token) as channel:
        status = await on_channel(dataclasses.StatusServiceStub, channel).get_status()
        request = dataclasses.SendMessageRequest(text="hello dataclasses", conversation_id="dc")
        kinds = []
        async for event in on_channel(dataclasses.ConversationServiceStub, channel).send_message(request):
            kinds += [name for name in ("accepted", "run", "finished") if getattr(event, name) is not None]
            last = event
    assert status.host_epoch >= 1
    assert (kinds[0], kinds[-1]) == ("accepted", "finished")
    assert last.finished is not None and last.finished.reply is not None
    assert "hello dataclasses" in last.finished.reply.content


async def test_a_run_is_cancelled_and_the_receipt_says_what_stopped(tmp_path: Path) -> None:
    async with started(tmp_path, MODELS__DEFAULT="demo-slow") as stack, stack.client() as host:
        stream = host.chat("tell me a long story " * 20, conversation_id="cancel")
        run_id = ""
        async for item in stream:
            if isinstance(item, Accepted):
                run_id = item.run_id
            if isinstance(item, TextAdded):
                break
        receipt = (await host.runs.cancel(run_id, "enough")).receipt
        run = await host.runs.get(run_id)
    assert receipt.complete
    assert run.state == run_pb2.RUN_STATE_CANCELLED


async def test_everything_ends_with_the_supervisor(tmp_path: Path) -> None:
    async with started(tmp_path) as stack:
        pids = [stack.pid(part) for part in ("host", "runtime", "box", "web")]
        assert all(alive(pid) for pid in pids)
    assert not any(alive(pid) for pid in pids)


async def test_messages_in_one_conversation_are_answered_in_their_order(stack: Stack) -> None:
    async with stack.client() as host:
        accepted = [await host.send(f"message {number}", conversation_id="order") for number in range(5)]
        for one in accepted:
            async for _ in host.runs.watch(one.run_id):
                pass
        history = await host.history("order")
    answers = [item.run_id for item in history.items if item.run_id]
    assert answers == [one.run_id for one in accepted]


async def test_a_watch_takes_up_after_any_sequence(stack: Stack) -> None:
    async with stack.client() as host:
        accepted = await host.send("run: seq 3", conversation_id="resume")
        whole = [event async for event in host.runs.watch(accepted.run_id, committed_only=True)]
        assert [event.sequence for event in whole] == list(range(1, len(whole) + 1))
        for after in range(len(whole)):
            rest = [e async for e in host.runs.watch(accepted.run_id, after_sequence=after, committed_only=True)]
            assert [e.SerializeToString() for e in rest] == [e.SerializeToString() for e in whole[after:]]
    assert any(MessageDone("", "", event.message_completed) for event in whole if event.HasField("message_completed"))
