"""Erasing what somebody said: nowhere is it found again, and what others said stays."""

from pathlib import Path

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.errors import InvalidInput, NotAuthenticated, NotFound, WrongState
from portway.server.erasure.store import StoredErasures, begin_erasure
from portway.server.erasure.types import Erasure, ErasureKind
from portway.server.erasure.workspace import tables_of_workspaces
from portway.server.storage_engine.schema import metadata
from portway.server.storage_engine.transaction import Transaction
from portway.v1 import (
    agent_pb2,
    artifact_pb2,
    audit_pb2,
    conversation_pb2,
    event_pb2,
    options_pb2,
    run_pb2,
    run_result_pb2,
    spending_pb2,
    workspace_pb2,
)
from tests.asking import ask, upload
from tests.fakes.runtime_server import RUNNER, FakeRun, FakeRuntime
from tests.server.callers import make_token
from tests.server.hosting import WORKSPACE, Hosted, a_message, hosted
from tests.waiting import until, until_told

SECRET = "xylophonequartz"
OTHER = "harmlesswords"


async def keeps_and_answers(run: FakeRun) -> None:
    """An answer that repeats what was said, and a value that is kept of the person."""
    text = run.context.input.text
    state = run_result_pb2.StateUpdated(scope=run_result_pb2.STATE_SCOPE_ACTOR, key="said", value_json=f'"{text}"')
    await run.send(run.result(state_updated=state))
    await run.say(f"you said {text}")
    await run.answer(f"you said {text}")


async def say(host: Hosted, text: str, chat: str, **more: str) -> event_pb2.SubmitEventResponse:
    accepted = await host.submit(text, chat=chat, **more)
    await host.ended(accepted.run_id)
    return accepted


async def found(host: Hosted, text: str) -> int:
    answer = await ask(host.channel, conversation_pb2.SearchMessagesRequest(query=text))
    return len(answer.items)


def in_files(folder: Path, text: str) -> list[str]:
    needle = text.encode()
    return [str(file) for file in folder.rglob("*") if file.is_file() and needle in file.read_bytes()]


async def erase(host: Hosted, **subject: str) -> workspace_pb2.EraseDataResponse:
    request = workspace_pb2.EraseDataRequest(reason="they asked for it", **subject)
    done: workspace_pb2.EraseDataResponse = await ask(host.channel, request)
    return done


async def send_file(host: Hosted, content: bytes) -> str:
    start = artifact_pb2.CreateArtifactRequest(start=artifact_pb2.CreateArtifactStart(name="f.txt"))
    answer = await upload(host.channel, start, artifact_pb2.CreateArtifactRequest(data=content))
    return str(answer.artifact.ref.artifact_id)


async def a_user(host: Hosted, *accounts: str) -> None:
    user = workspace_pb2.User(user_id="ada", name="Ada", role=options_pb2.ROLE_MEMBER, actor_ids=accounts)
    await ask(host.channel, workspace_pb2.CreateUserRequest(user=user))


async def test_a_conversation_is_erased_and_the_others_stay(host: Hosted, runtime: FakeRuntime, tmp_path: Path) -> None:
    runtime.script = keeps_and_answers
    kept, gone = await say(host, OTHER, "kept"), await say(host, SECRET, "gone")
    message = a_message(f"see {SECRET}", chat="gone")
    message.parts.add().file.artifact.artifact_id = await send_file(host, f"a file with {SECRET}".encode())
    with_file = await host.submit(message)
    await host.ended(with_file.run_id)
    ledger = await host.watch(gone.run_id, committed_only=True)
    assert await found(host, SECRET) and in_files(tmp_path, SECRET)

    done = await erase(host, conversation_id=gone.conversation_id)
    assert done.redacted_count > 5 and done.deleted_artifact_count == 1 and done.erasure_id.startswith("ers_")
    assert not await found(host, SECRET) and await found(host, OTHER)
    assert not in_files(tmp_path, SECRET), "the text is still in the data folder"
    # Sequences and cursors hold.
    left = await host.watch(gone.run_id, committed_only=True)
    assert [(one.sequence, one.WhichOneof("kind")) for one in left] == [
        (one.sequence, one.WhichOneof("kind")) for one in ledger
    ]
    assert (await host.run(gone.run_id)).state == run_pb2.RUN_STATE_COMPLETED
    items = await host.transcript(gone.conversation_id)
    assert items and all(not item.text and item.redact_time for item in items)
    told = await ask(host.channel, event_pb2.ExplainMessageRequest(id=gone.event_id))
    assert SECRET not in str(told)
    assert (await host.transcript(kept.conversation_id))[0].text == OTHER
    # A second time there is nothing to do.
    again = await erase(host, conversation_id=gone.conversation_id)
    assert (again.redacted_count, again.deleted_artifact_count) == (0, 0)
    page = await ask(host.channel, audit_pb2.ListAuditEntriesRequest(action="data.*"))
    assert [entry.action for entry in page.audit_entries] == ["data.erased", "data.erase"] * 2
    assert SECRET not in str(page) and "they asked for it" in str(page)


async def test_a_user_is_erased_over_all_accounts_and_nobody_else(
    host: Hosted, runtime: FakeRuntime, tmp_path: Path
) -> None:
    runtime.script = keeps_and_answers

    def by(actor: str, text: str, group: str = "group", surface: str = "api") -> event_pb2.Event:
        event = a_message(text, chat=group, surface=surface)
        event.address.launcher_type = "group"
        event.actor.id, event.actor.name = actor, f"name of {actor}"
        return event

    accepted = [
        await host.submit(one)
        for one in (
            by("ada-1", f"first {SECRET}"),
            by("bob", OTHER),
            by("ada-2", f"second {SECRET}", "elsewhere"),
            by("ada-1", f"namesake {OTHER}", "elsewhere", "other"),
        )
    ]
    for one in accepted:
        await host.ended(one.run_id)
    await a_user(host, "api:ada-1", "api:ada-2")
    assert len(in_files(tmp_path, SECRET)) >= 1
    done = await erase(host, user_id="ada")
    assert done.redacted_count > 5
    assert not await found(host, SECRET)
    assert not in_files(tmp_path, SECRET), "the text is still in the data folder"
    texts = [item.text for item in await host.transcript(accepted[0].conversation_id)]
    assert sorted(text for text in texts if text) == [OTHER, f"you said {OTHER}"] and len(texts) == 4
    # The same id on another platform is another person.
    namesake = [item.text for item in await host.transcript(accepted[3].conversation_id)]
    assert namesake[0] == f"namesake {OTHER}"
    # The user may go on, and new words are kept.
    fresh = await host.submit(by("ada-1", "a new beginning"))
    await host.ended(fresh.run_id)
    assert await found(host, "beginning")


async def test_an_erasure_cut_off_by_a_restart_is_finished(tmp_path: Path, runtime: FakeRuntime) -> None:
    async with hosted(tmp_path, runtime) as host:
        await host.set_agent()
        runtime.script = keeps_and_answers
        accepted = await say(host, SECRET, "gone")

        def unit(tx: Transaction) -> None:
            name = accepted.conversation_id
            begin_erasure(
                tx,
                Erasure(WORKSPACE, "ers_1", ErasureKind.CONVERSATION, name, "", "tok", WORKSPACE, 0, 0, 0, tx.now, 0),
            )

        await host.parts.stores.database.writer.run(unit)
    async with hosted(tmp_path, runtime) as host:
        stored = StoredErasures(host.parts.stores.database.reader)

        async def ended() -> bool:
            return (await stored.erasure(WORKSPACE, "ers_1")).end_time > 0

        await until_told(ended)
        assert not await found(host, SECRET) and not in_files(tmp_path, SECRET)
        assert (await stored.erasure(WORKSPACE, "ers_1")).redacted > 3


async def test_what_runs_is_cancelled_first(host: Hosted, runtime: FakeRuntime) -> None:
    async def hold(run: FakeRun) -> None:
        await run.say(SECRET)
        await run.cancelled.wait()
        await run.send(run.result(run_failed={"error": {"code": "cancelled", "message": SECRET}}))

    runtime.script = hold
    accepted = await host.submit(SECRET, chat="gone")
    await until(lambda: len(runtime.runs) == 1)
    await erase(host, conversation_id=accepted.conversation_id)
    assert (await host.run(accepted.run_id)).state == run_pb2.RUN_STATE_CANCELLED
    assert not await found(host, SECRET)


async def test_what_is_not_there_is_not_found(host: Hosted) -> None:
    with pytest.raises(NotFound):
        await erase(host, user_id="nobody")
    with pytest.raises(NotFound):
        await erase(host, conversation_id="cnv_none")
    with pytest.raises(InvalidInput):
        await erase(host)


def test_every_table_of_a_workspace_is_known() -> None:
    declared = {table.name for table in metadata.sorted_tables if "workspace_id" in table.columns}
    assert set(tables_of_workspaces()) == declared


async def a_team(host: Hosted) -> None:
    team = workspace_pb2.Workspace(workspace_id="team", name="Team")
    await ask(host.channel, workspace_pb2.CreateWorkspaceRequest(workspace=team))


async def test_a_workspace_goes_with_everything_that_names_it(
    host: Hosted, runtime: FakeRuntime, tmp_path: Path
) -> None:
    await a_team(host)
    made = await make_token(host, "operator", "team")
    runtime.script = keeps_and_answers
    async with open_channel(host.address, token=made.secret) as channel:
        agent = agent_pb2.Agent(agent_id="helper", name="Helper", runner_id=RUNNER)
        await ask(channel, agent_pb2.CreateAgentRequest(agent=agent))
        request = event_pb2.SubmitEventRequest(event=a_message(SECRET), idempotency_key="k", agent_id="helper")
        accepted = await ask(channel, request)
        start = artifact_pb2.CreateArtifactRequest(start=artifact_pb2.CreateArtifactStart(name="f.txt"))
        await upload(channel, start, artifact_pb2.CreateArtifactRequest(data=SECRET.encode()))

        async def over() -> bool:
            run = (await ask(channel, run_pb2.GetRunRequest(run_id=accepted.run_id))).run
            return bool(run.state == run_pb2.RUN_STATE_COMPLETED)

        await until_told(over)
        assert in_files(tmp_path, SECRET)
        await ask(host.channel, workspace_pb2.DeleteWorkspaceRequest(workspace_id="team"))
        with pytest.raises(NotAuthenticated):
            await ask(channel, agent_pb2.ListAgentsRequest())
    with pytest.raises(NotFound):
        await ask(host.channel, workspace_pb2.GetWorkspaceRequest(workspace_id="team"))
    assert not in_files(tmp_path, SECRET)
    reader = host.parts.stores.database.reader
    for table in tables_of_workspaces():
        rows = await reader.run(
            lambda tx, table=table: tx.all(f"SELECT 1 FROM {table} WHERE workspace_id = 'team' LIMIT 1")
        )
        assert not rows, table
    page = await ask(host.channel, audit_pb2.ListAuditEntriesRequest(action="workspace.delete"))
    assert [entry.resource for entry in page.audit_entries] == ["workspace team"]
    await a_team(host)


async def test_a_workspace_with_runs_is_deleted_only_by_force_and_the_default_one_never(
    host: Hosted, runtime: FakeRuntime
) -> None:
    async def hold(run: FakeRun) -> None:
        await run.cancelled.wait()
        await run.send(run.result(run_failed={"error": {"code": "cancelled"}}))

    await a_team(host)
    made = await make_token(host, "operator", "team")
    runtime.script = hold
    async with open_channel(host.address, token=made.secret) as channel:
        agent = agent_pb2.Agent(agent_id="helper", name="Helper", runner_id=RUNNER)
        await ask(channel, agent_pb2.CreateAgentRequest(agent=agent))
        request = event_pb2.SubmitEventRequest(event=a_message("hi"), idempotency_key="k", agent_id="helper")
        await ask(channel, request)
        await until(lambda: len(runtime.runs) == 1)
    for name in ("team", "default"):
        with pytest.raises(WrongState):
            await ask(host.channel, workspace_pb2.DeleteWorkspaceRequest(workspace_id=name))
    with pytest.raises(NotFound):
        await ask(host.channel, workspace_pb2.DeleteWorkspaceRequest(workspace_id="nowhere"))
    await ask(host.channel, workspace_pb2.DeleteWorkspaceRequest(workspace_id="team", force=True))
    assert runtime.runs[0].cancelled.is_set()
    with pytest.raises(WrongState):
        await ask(host.channel, workspace_pb2.DeleteWorkspaceRequest(workspace_id="default", force=True))


async def test_what_an_erased_run_spent_can_still_be_asked(host: Hosted) -> None:
    accepted = await say(host, SECRET, "ada")
    await erase(host, conversation_id=accepted.conversation_id)
    answer = await ask(host.channel, spending_pb2.GetSpendingRequest(run_id=accepted.run_id))
    assert not answer.budget.HasField("calls")
