"""The host is killed with SIGKILL at each stage of a message that a person wrote in the web chat.

Afterwards the page shows exactly one final message for it, and a command that ran, ran once. Successes are counted:
a run in which everything merely failed is no pass.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from portway.clients.box import Box
from portway.clients.host import Portway
from portway.rpc.errors import NotFound, PortwayError
from portway.rpc.status import errors_by_meaning
from portway.v1 import content_pb2, conversation_pb2, delivery_pb2, event_pb2, run_pb2
from tests.e2e.browser import Chat, browser_page
from tests.e2e.stack import Stack, started
from tests.sandbox import needs_sandbox

ENDED = (run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELLED)
SLOW = {"MODELS__DEFAULT": "demo-slow", "MODELS__DEMO__SLOW_CHUNK_SECONDS": "0.1"}
SECONDS = 120


@asynccontextmanager
async def chatting(folder: Path, **settings: str) -> AsyncIterator[tuple[Stack, Chat]]:
    async with started(folder, **settings) as stack, browser_page(stack.web_address) as page:
        yield stack, Chat(page)


async def the_run(host: Portway) -> run_pb2.Run | None:
    """The only run there is; None while there is none."""
    runs = await host.runs.list()
    assert len(runs) <= 1, runs
    return runs[0] if runs else None


async def run_in(stack: Stack, *states: int) -> run_pb2.Run:
    """The only run, once it is in one of the states."""
    async with asyncio.timeout(SECONDS), stack.client() as host:
        while True:
            run = await the_run(host)
            if run is not None and run.state in states:
                return run
            await asyncio.sleep(0.02)


async def event_of(stack: Stack, kind: str) -> None:
    """Wait until the only run's ledger has an event of a kind."""
    async with asyncio.timeout(SECONDS), stack.client() as host:
        while (run := await the_run(host)) is None:  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.02)
        async for event in host.runs.watch(run.run_id):
            if event.WhichOneof("kind") == kind:
                return
    raise AssertionError(f"the run ended without {kind}")


async def acknowledged(stack: Stack) -> None:
    """Wait until every delivery there is has reached the page's process."""
    async with asyncio.timeout(SECONDS), stack.client() as host:
        while True:
            with errors_by_meaning():
                page = await host.deliveries.ListDeliveries(delivery_pb2.ListDeliveriesRequest())
            found = [delivery.state for delivery in page.deliveries]
            if found and all(state == delivery_pb2.DELIVERY_STATE_ACKNOWLEDGED for state in found):
                return
            await asyncio.sleep(0.05)


async def said(stack: Stack) -> list[str]:
    """What the agent or the host said in the only conversation of the web chat."""
    async with stack.client() as host:
        with errors_by_meaning():
            page = await host.conversations.ListConversations(conversation_pb2.ListConversationsRequest())
        (conversation,) = page.conversations
        items = (await host.history(conversation.conversation_id)).items
    return [item.content for item in items if item.role != content_pb2.MESSAGE_ROLE_USER]


async def times_the_command_ran(stack: Stack) -> int:
    """Each run of the test's command leaves one line in its sandbox."""
    async with Box(stack.box_address, token=stack.token) as box:
        (session,) = await box.list_sessions("default")
        printed = b""
        argv = ["cat", "/workspace/ran"]
        async for answer in box.exec(session.session_id, argv, workspace_id=session.workspace_id):
            printed += answer.stdout
    return printed.count(b"once\n")


async def restart_host(stack: Stack) -> None:
    await stack.restarted("host", await stack.kill("host"))


async def check_one_answer(stack: Stack, chat: Chat, expected: str) -> None:
    run = await run_in(stack, *ENDED)
    await acknowledged(stack)
    assert run.state == run_pb2.RUN_STATE_COMPLETED, run
    (answer,) = await said(stack)
    assert expected in answer
    await chat.is_answered(expected)
    (shown,) = await chat.answers()
    assert expected in shown


async def test_killed_before_the_run_starts(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (stack, chat):
        await stack.kill("runtime", signal.SIGSTOP)
        await chat.send("hello before the start")
        await run_in(stack, run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_RUNNING)
        host = await stack.kill("host")
        await stack.kill("runtime", signal.SIGCONT)
        await stack.restarted("host", host)
        await check_one_answer(stack, chat, "hello before the start")


async def test_killed_in_the_middle_of_the_stream(tmp_path: Path) -> None:
    async with chatting(tmp_path, **SLOW) as (stack, chat):
        await chat.send("a long message " * 8 + "that ends here")
        await chat.live_text()
        await restart_host(stack)
        await check_one_answer(stack, chat, "that ends here")


async def test_killed_before_the_delivery(tmp_path: Path) -> None:
    async with chatting(tmp_path, **SLOW) as (stack, chat):
        await chat.send("hello before the delivery")
        await run_in(stack, run_pb2.RUN_STATE_RUNNING)
        await stack.kill("web", signal.SIGSTOP)
        await run_in(stack, *ENDED)
        host = await stack.kill("host")
        await stack.kill("web", signal.SIGCONT)
        await stack.restarted("host", host)
        await check_one_answer(stack, chat, "hello before the delivery")


@needs_sandbox
async def test_killed_after_a_command_ran(tmp_path: Path) -> None:
    async with chatting(tmp_path, **SLOW) as (stack, chat):
        await chat.send("run: echo once >> /workspace/ran; echo the output of it")
        await event_of(stack, "tool_call_completed")
        await restart_host(stack)
        await check_one_answer(stack, chat, "the output of it")
        assert await times_the_command_ran(stack) == 1


@needs_sandbox
async def test_killed_while_a_command_runs(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (stack, chat):
        await chat.send("run: echo once >> /workspace/ran; sleep 3; echo finished")
        await event_of(stack, "tool_call_started")
        await command_began(stack)
        await restart_host(stack)
        run = await run_in(stack, *ENDED)
        await acknowledged(stack)
        # The command dies with the connection that it ran on. The answer says so; where even that is lost, a notice
        # stands in place of the answer. It ran once all the same.
        (answer,) = await said(stack)
        told = "finished" in answer or "killed by signal 9" in answer
        assert (run.state == run_pb2.RUN_STATE_COMPLETED) == told, (run, answer)
        await chat.is_answered(answer[:20])
        assert len(await chat.answers()) == 1
        assert await times_the_command_ran(stack) == 1


async def command_began(stack: Stack) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                if await times_the_command_ran(stack):
                    return
            except (NotFound, ValueError):
                # The session is not there yet.
                pass
            await asyncio.sleep(0.05)


async def test_killed_again_and_again_under_load_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """Callers try again with their key until they are acknowledged, while the host is killed three times."""
    names = [f"load-{number}" for number in range(24)]
    async with started(tmp_path) as stack:
        sending = [asyncio.create_task(send_until_accepted(stack, name)) for name in names]
        for _ in range(3):
            await restart_host(stack)
        await asyncio.gather(*sending)
        ended = [await ended_run(stack, name) for name in names]
        async with stack.client() as host:
            for name in names:
                items = (await host.history(name)).items
                roles = [item.role for item in items]
                assert roles == [content_pb2.MESSAGE_ROLE_USER, content_pb2.MESSAGE_ROLE_ASSISTANT], (name, items)
    completed = [run for run in ended if run.state == run_pb2.RUN_STATE_COMPLETED]
    assert len(completed) == len(names), [str(run.error) for run in ended]


async def ended_run(stack: Stack, conversation: str) -> run_pb2.Run:
    async with asyncio.timeout(SECONDS), stack.client() as host:
        while True:
            (run,) = await host.runs.list(conversation_id=conversation)
            if run.state in ENDED:
                return run
            await asyncio.sleep(0.05)


async def send_until_accepted(stack: Stack, conversation: str) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                async with Portway(stack.host_address, token=stack.token) as host:
                    await host.send(f"hello {conversation}", conversation_id=conversation, idempotency_key=conversation)
                return
            except (PortwayError, FileNotFoundError):
                # Whatever a dying host answers: the same key makes trying again safe.
                await asyncio.sleep(0.1)


async def test_an_acknowledged_event_is_in_the_log_once(tmp_path: Path) -> None:
    async with started(tmp_path) as stack:
        async with stack.client() as host:
            accepted = await host.send("hello", conversation_id="once", idempotency_key="once")
        await restart_host(stack)
        async with stack.client() as host:
            again = await host.send("hello", conversation_id="once", idempotency_key="once")
            with errors_by_meaning():
                page = await host.events.ListEvents(event_pb2.ListEventsRequest(conversation_id="once"))
    assert again.duplicate
    assert again.event_id == accepted.event_id
    assert [event.event_id for event in page.events] == [accepted.event_id]
