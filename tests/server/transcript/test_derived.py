"""What a runner keeps of a conversation in other words goes with what it was made from."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from portway.rpc.ids import new_id
from portway.server.transcript.derived import PENDING_KEY, SUMMARY_KEY
from portway.v1 import event_pb2, options_pb2, run_result_pb2, workspace_pb2
from tests.asking import ask
from tests.fakes.runtime_server import FakeRun, FakeRuntime, serve_fake_runtime
from tests.server.hosting import Hosted, a_message, hosted

OTHER_KEY = "external.session_id"
KEYS = (SUMMARY_KEY, PENDING_KEY, OTHER_KEY)


class Keeps:
    """Keeps what it is told in its state, where the text says so; `seen` is what the last run found there."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    async def __call__(self, run: FakeRun) -> None:
        self.seen = {key: json.loads(one.value_json) for key, one in run.context.state.conversation.items()}
        if run.context.input.text.startswith("keep"):
            for key in KEYS:
                value = json.dumps(run.context.input.text)
                scope = run_result_pb2.STATE_SCOPE_CONVERSATION
                await run.send(run.result(state_updated={"scope": scope, "key": key, "value_json": value}))
        await run.answer("ok")


@pytest.fixture
async def runtime() -> AsyncIterator[FakeRuntime]:
    async with serve_fake_runtime(FakeRuntime(Keeps())) as runtime:
        yield runtime


@pytest.fixture
async def host(tmp_path: Any, runtime: FakeRuntime) -> AsyncIterator[Hosted]:
    async with hosted(tmp_path, runtime) as running:
        await running.set_agent()
        yield running


def said(text: str, message: str, kind: str = "message.received") -> event_pb2.Event:
    event = a_message(text, source="tg")
    event.type = kind
    event.subject.type, event.subject.id = "message", message
    if kind == "message.recalled":
        event.ClearField("parts")
    return event


async def seen_by_the_next_run(host: Hosted, runtime: FakeRuntime) -> set[str]:
    await host.ended((await host.submit(said("look", new_id("look")))).run_id)
    assert isinstance(runtime.script, Keeps)
    return set(runtime.script.seen)


@pytest.mark.parametrize("kind", ["message.edited", "message.recalled"])
async def test_a_changed_message_takes_the_summaries_with_it_that_may_hold_it(
    host: Hosted, runtime: FakeRuntime, kind: str
) -> None:
    first = await host.submit(said("old words", "m1"))
    await host.ended(first.run_id)
    await host.ended((await host.submit(said("keep this", "m2"))).run_id)
    assert await seen_by_the_next_run(host, runtime) == set(KEYS)
    later = await host.submit(said("later words", "m3"))
    await host.ended(later.run_id)
    await host.submit(said("later, changed", "m3", kind))
    assert await seen_by_the_next_run(host, runtime) == set(KEYS), "it was said after the summary was written"
    await host.submit(said("new words", "m1", kind))
    assert await seen_by_the_next_run(host, runtime) == {PENDING_KEY, OTHER_KEY}


async def test_other_conversations_keep_theirs(host: Hosted, runtime: FakeRuntime) -> None:
    await host.ended((await host.submit(said("old words", "m1"))).run_id)
    await host.ended((await host.submit("keep that", chat="another")).run_id)
    await host.submit(said("new words", "m1", "message.edited"))
    await host.ended((await host.submit("look", chat="another")).run_id)
    assert isinstance(runtime.script, Keeps)
    assert set(runtime.script.seen) == set(KEYS)


async def test_an_erased_person_is_not_remembered_in_what_others_runs_kept(host: Hosted, runtime: FakeRuntime) -> None:
    def by(actor: str, text: str) -> event_pb2.Event:
        event = a_message(text, chat="group")
        event.address.launcher_type = "group"
        event.actor.id = actor
        return event

    await host.ended((await host.submit(by("ada", "secret of ada"))).run_id)
    await host.ended((await host.submit(by("bob", "keep the secret of ada"))).run_id)
    user = workspace_pb2.User(user_id="ada", name="Ada", role=options_pb2.ROLE_MEMBER, actor_ids=["api:ada"])
    await ask(host.channel, workspace_pb2.CreateUserRequest(user=user))
    await ask(host.channel, workspace_pb2.EraseDataRequest(user_id="ada", reason="asked"))
    await host.ended((await host.submit(by("bob", "look"))).run_id)
    assert isinstance(runtime.script, Keeps)
    assert set(runtime.script.seen) == {OTHER_KEY}
