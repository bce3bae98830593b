"""Calls on a run's own stream: together, out of order, refused where they must be, and seen in order by results."""

import asyncio
from pathlib import Path

from portway.rpc.errors import Reason
from portway.server.agents.types import BoxPolicy, HistoryScope, ResourcePolicy, StatePolicy
from portway.server.audit.store import NEWEST, StoredAudit
from portway.server.audit.types import AuditFilter
from portway.server.models.config import DemoConfig, ModelsConfig
from portway.v1 import content_pb2, run_agent_pb2, run_model_pb2, run_pb2, run_pull_pb2, run_result_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime, a_manifest
from tests.server.hosting import WORKSPACE, Hosted, hosted, text_part
from tests.server.playing import played
from tests.waiting import PATIENCE, until

CONVERSATION = run_result_pb2.STATE_SCOPE_CONVERSATION
ACTOR = run_result_pb2.STATE_SCOPE_ACTOR
SUBJECT = run_result_pb2.STATE_SCOPE_SUBJECT
RUNNER_SCOPE = run_result_pb2.STATE_SCOPE_RUNNER


async def test_many_calls_at_once_are_each_answered(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        keys = [f"k{number:03}" for number in range(200)]
        await asyncio.gather(
            *(
                run.ask("set_state", run_pull_pb2.SetStateRequest(scope=CONVERSATION, key=key, value_json=f'"{key}"'))
                for key in keys
            )
        )
        found = await asyncio.gather(
            *(run.ask("get_state", run_pull_pb2.GetStateRequest(scope=CONVERSATION, key=key)) for key in keys)
        )
        assert [one.value.value_json for one in found] == [f'"{key}"' for key in keys]

    await played(host, runtime, script)


async def test_a_slow_call_holds_up_no_other_and_is_cancelled_alone(tmp_path: Path, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        request = run_model_pb2.StreamModelRequest(request=_question("demo-slow"))
        slow = asyncio.create_task(run.ask_all("stream_model", request))
        await until(lambda: run.last_call == 1)
        await run.ask("get_prompt", run_pull_pb2.GetPromptRequest())
        assert not slow.done()
        await run.cancel_call(1)
        answers = await slow
        assert answers[-1].error.reason == Reason.CANCELLED

    models = ModelsConfig(demo=DemoConfig(slow_chunk_seconds=600.0))
    async with hosted(tmp_path, runtime, models=models) as host:
        await host.set_agent(resource_policy=ResourcePolicy(model_ids=("demo-slow",)))
        await played(host, runtime, script)


async def test_a_call_sees_what_results_before_it_have_written(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        update = {"scope": CONVERSATION, "key": "step", "value_json": "7"}
        await run.send(run.result(state_updated=update))
        found = await run.ask("get_state", run_pull_pb2.GetStateRequest(scope=CONVERSATION, key="step"))
        assert (found.value.value_json, found.value.version) == ("7", 1)
        await run.send(run.result(state_updated={**update, "value_json": ""}))
        missing = await run.ask("get_state", run_pull_pb2.GetStateRequest(scope=CONVERSATION, key="step"))
        assert missing.reason == Reason.NOT_FOUND

    run = await played(host, runtime, script)
    events = await host.watch(run.run_id)
    updates = [event.state_updated for event in events if event.WhichOneof("kind") == "state_updated"]
    assert [(one.key, one.value_json) for one in updates] == [("step", ""), ("step", "")]


async def test_what_is_not_there_yet_says_so_and_never_pretends(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        for name, request in (
            ("list_knowledge_bases", run_pull_pb2.RunnerServiceListKnowledgeBasesRequest()),
            ("retrieve_knowledge", run_pull_pb2.RetrieveKnowledgeRequest(knowledge_base_ids=["k"], query="q")),
        ):
            error = await run.ask(name, request)
            assert (error.code, error.message) == (12, "not available in this version"), name

    await played(host, runtime, script)


async def test_wrong_calls_are_refused_with_the_fields_that_are_wrong(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        bad = await run.ask("get_state", run_pull_pb2.GetStateRequest())
        assert bad.code == 3 and {one.field for one in bad.violations} == {"scope", "key"}
        no_json = run_pull_pb2.SetStateRequest(scope=CONVERSATION, key="k", value_json="{")
        assert (await run.ask("set_state", no_json)).violations[0].field == "value_json"
        empty = run_agent_pb2.RunOutputFrame()
        empty.call.call_id = 77
        answers = run.answers[77] = asyncio.Queue()
        await run.send(empty)
        assert (await answers.get()).error.code == 3

    await played(host, runtime, script)


async def test_an_operation_outside_the_snapshot_is_refused_and_audited(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        storage = run_pull_pb2.StorageKey(area=run_pull_pb2.STORAGE_AREA_WORKSPACE, key="k")
        refused = await run.ask("get_storage", run_pull_pb2.GetStorageRequest(key=storage))
        assert (refused.code, refused.reason) == (7, Reason.NOT_GRANTED)
        state = await run.ask("get_state", run_pull_pb2.GetStateRequest(scope=CONVERSATION, key="k"))
        assert (state.code, state.reason) == (7, Reason.NOT_GRANTED)
        model = await run.ask("invoke_model", run_model_pb2.InvokeModelRequest(request=_question("demo-20")))
        assert (model.code, model.reason) == (5, Reason.NOT_FOUND)
        tool = await run.ask("call_tool", run_pull_pb2.RunnerServiceCallToolRequest(name="exec"))
        assert tool.code in (5, 7)

    await host.set_agent(state_policy=StatePolicy(disabled=True))
    run = await played(host, runtime, script)
    async with asyncio.timeout(PATIENCE):
        while len(await _audit(host, run.run_id)) < 4:  # noqa: ASYNC110 - a job of the host writes it
            await asyncio.sleep(0.01)
    assert sorted(await _audit(host, run.run_id)) == ["CallTool", "GetState", "GetStorage", "InvokeModel"]


async def test_explaining_a_run_shows_what_each_layer_took_away(host: Hosted, runtime: FakeRuntime) -> None:
    await host.set_agent(state_policy=StatePolicy(disabled=True), box_policy=BoxPolicy(tools=("exec",)))
    run = await host.asked()
    answer = await host.runs.ExplainRun(run_pb2.ExplainRunRequest(run_id=run.run_id))
    assert [layer.name for layer in answer.layers] == ["manifest", "policy", "event"]
    manifest, policy, event = answer.layers
    assert manifest.permissions.state and not policy.permissions.state and not event.permissions.state
    assert any("knowledge_bases_list" in one for one in manifest.removed)
    assert any("state: the agent's policy" in one for one in policy.removed)
    assert any("tool exec" in one and "box" in one for one in policy.removed)
    assert event.permissions == runtime.runs[0].context.permissions
    assert answer.binding.agent_id == "assistant" and answer.binding.candidates
    assert answer.attempts[0].state == "completed" and answer.conclusion == "It completed (stop)."
    assert {step.stage for step in answer.steps} >= {"run", "outcome"}


async def test_state_has_versions_and_one_winner(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        def setting(value: int, expected: int) -> run_pull_pb2.SetStateRequest:
            return run_pull_pb2.SetStateRequest(
                scope=ACTOR, key="count", value_json=str(value), expected_version=expected
            )

        results = await asyncio.gather(*(run.ask("set_state", setting(number, 0)) for number in range(8)))
        versions = [one.version for one in results if isinstance(one, run_pull_pb2.SetStateResponse)]
        stale = [one.code for one in results if not isinstance(one, run_pull_pb2.SetStateResponse)]
        assert versions == [1] and stale == [10] * 7
        assert (await run.ask("set_state", setting(9, 1))).version == 2
        delete = run_pull_pb2.DeleteStateRequest(scope=ACTOR, key="count", expected_version=1)
        assert (await run.ask("delete_state", delete)).code == 10
        delete.expected_version = 2
        await run.ask("delete_state", delete)
        assert (await run.ask("delete_state", delete)).code == 5
        # The event has no subject, so the run has no such scope.
        subject = await run.ask("get_state", run_pull_pb2.GetStateRequest(scope=SUBJECT, key="k"))
        assert subject.code == 5
        for number in range(3):
            key = f"list/{number}"
            await run.ask(
                "set_state", run_pull_pb2.SetStateRequest(scope=RUNNER_SCOPE, key=key, value_json=str(number))
            )
        request = run_pull_pb2.ListStateRequest(scope=RUNNER_SCOPE, prefix="list/", limit=2)
        page = await run.ask("list_state", request)
        assert sorted(page.values) == ["list/0", "list/1"] and page.has_more

    await played(host, runtime, script)
    seen: list[str] = []

    async def next_run(run: FakeRun) -> None:
        seen.extend(run.context.state.runner)

    await played(host, runtime, next_run, chat="another")
    assert sorted(seen) == ["list/0", "list/1", "list/2"]


async def test_storage_holds_small_and_large_bytes_of_the_plugin(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        for name, content in (("small", b"abc"), ("large", bytes(range(256)) * 2000), ("empty", b"")):
            key = run_pull_pb2.StorageKey(area=run_pull_pb2.STORAGE_AREA_PLUGIN, key=name)
            half = len(content) // 2
            written = await run.ask(
                "set_storage",
                run_pull_pb2.SetStorageRequest(key=key, data=content[:half]),
                run_pull_pb2.SetStorageRequest(data=content[half:]),
            )
            assert written.size == len(content), written
            answers = await run.ask_all("get_storage", run_pull_pb2.GetStorageRequest(key=key))
            assert b"".join(one.get_storage.data for one in answers) == content
            assert answers[0].get_storage.size == len(content)
        listed = await run.ask("list_storage", run_pull_pb2.ListStorageRequest(area=run_pull_pb2.STORAGE_AREA_PLUGIN))
        assert [(entry.key, entry.size) for entry in listed.entries] == [("empty", 0), ("large", 512_000), ("small", 3)]
        key = run_pull_pb2.StorageKey(area=run_pull_pb2.STORAGE_AREA_PLUGIN, key="small")
        await run.ask("delete_storage", run_pull_pb2.DeleteStorageRequest(key=key))
        assert (await run.ask("get_storage", run_pull_pb2.GetStorageRequest(key=key))).code == 5

    await played(host, runtime, script)


async def test_a_file_is_made_read_in_ranges_and_goes_with_the_next_message(host: Hosted, runtime: FakeRuntime) -> None:
    content = b"0123456789" * 50_000
    made: list[content_pb2.ArtifactRef] = []

    async def script(run: FakeRun) -> None:
        wanted = content_pb2.ArtifactRef(name="a/b/report.txt", mime_type="text/plain", size=len(content))
        answer = await run.ask(
            "create_artifact",
            run_pull_pb2.RunnerServiceCreateArtifactRequest(artifact=wanted, data=content[:1000]),
            run_pull_pb2.RunnerServiceCreateArtifactRequest(data=content[1000:]),
        )
        made.append(answer.artifact)
        assert answer.artifact.name == "report.txt" and answer.artifact.size == len(content)
        read = run_pull_pb2.RunnerServiceReadArtifactRequest(artifact_id=answer.artifact.artifact_id)
        first = await run.ask_all("read_artifact", read)
        assert b"".join(one.read_artifact.data for one in first) == content[: 64 * 1024]
        read.offset, read.length = 499_990, 1000
        last = await run.ask_all("read_artifact", read)
        assert b"".join(one.read_artifact.data for one in last) == content[499_990:]
        read.offset = len(content) + 1
        assert (await run.ask("read_artifact", read)).code == 11
        wanted.sha256 = "0" * 64
        wrong = run_pull_pb2.RunnerServiceCreateArtifactRequest(artifact=wanted, data=content)
        assert (await run.ask("create_artifact", wrong)).code == 3
        inline = {"artifact": {"name": "dot.png", "mime_type": "image/png"}, "content": b"png"}
        await run.send(run.result(artifact_created=inline))
        known = {"artifact": {"artifact_id": answer.artifact.artifact_id}}
        await run.send(run.result(artifact_created=known), run.result(artifact_created=known))

    run = await played(host, runtime, script)
    events = await host.watch(run.run_id)
    (message,) = (e.message_completed.message for e in events if e.WhichOneof("kind") == "message_completed")
    kinds = [(part.WhichOneof("kind")) for part in message.parts]
    assert kinds == ["text", "image", "file"]
    assert message.parts[2].file.artifact.artifact_id == made[0].artifact_id


async def test_files_of_another_conversation_do_not_exist_for_a_run(host: Hosted, runtime: FakeRuntime) -> None:
    ids: list[str] = []

    async def makes(run: FakeRun) -> None:
        request = run_pull_pb2.RunnerServiceCreateArtifactRequest(data=b"x")
        request.artifact.name = "x"
        ids.append((await run.ask("create_artifact", request)).artifact.artifact_id)

    async def looks(run: FakeRun) -> None:
        request = run_pull_pb2.RunnerServiceGetArtifactRequest(artifact_id=ids[0])
        foreign = await run.ask("get_artifact", request)
        request.artifact_id = "art_nobody"
        missing = await run.ask("get_artifact", request)
        assert foreign.code == missing.code == 5
        assert foreign.message.replace(ids[0], "art_nobody") == missing.message

    async def looks_from_the_same_chat(run: FakeRun) -> None:
        request = run_pull_pb2.RunnerServiceGetArtifactRequest(artifact_id=ids[0])
        assert (await run.ask("get_artifact", request)).artifact.name == "x"

    await played(host, runtime, makes, chat="one")
    await played(host, runtime, looks, chat="two")
    await played(host, runtime, looks_from_the_same_chat, chat="one")


async def test_history_is_paged_backwards_from_the_message_and_searched(host: Hosted, runtime: FakeRuntime) -> None:
    for number in range(7):
        await host.asked(f"question {number} about 北京天气", chat="same")
    await host.asked("elsewhere about 北京天气", chat="other")

    async def script(run: FakeRun) -> None:
        texts: list[str] = []
        before = run.context.context.latest_cursor
        while before:
            page = await run.ask("page_history", run_pull_pb2.PageHistoryRequest(before=before, limit=4))
            texts[:0] = [item.content for item in page.items]
            assert page.has_more == bool(page.before_cursor)
            before = page.before_cursor
        assert (
            len(texts) == 14 and texts[0] == "question 0 about 北京天气" and texts[13].startswith("hello, question 6")
        )
        forward = run_pull_pb2.PageHistoryRequest(direction=run_pull_pb2.PAGE_DIRECTION_FORWARD, limit=3)
        page = await run.ask("page_history", forward)
        assert [item.content for item in page.items] == texts[:3]
        forward.after = page.after_cursor
        page = await run.ask("page_history", forward)
        assert [item.content for item in page.items] == texts[3:6]
        newest = await run.ask("page_history", run_pull_pb2.PageHistoryRequest(limit=1))
        assert newest.items[0].content == "now"
        forged = await run.ask("page_history", run_pull_pb2.PageHistoryRequest(before="forged"))
        assert (forged.code, forged.reason) == (3, Reason.INVALID_CURSOR)
        roles = [content_pb2.MESSAGE_ROLE_USER]
        request = run_pull_pb2.SearchHistoryRequest(query="天气", roles=roles, top_k=100)
        found = await run.ask("search_history", request)
        assert {item.content for item in found.items} >= {f"question {number} about 北京天气" for number in range(7)}

    await host.set_agent(resource_policy=ResourcePolicy(history_scope=HistoryScope.CONVERSATION))
    await played(host, runtime, script, "now", chat="same")


async def test_events_of_the_conversation_can_be_read(host: Hosted, runtime: FakeRuntime) -> None:
    first = await host.submit("first", chat="same")
    await host.ended(first.run_id)
    foreign = await host.submit("foreign", chat="other")
    await host.ended(foreign.run_id)

    async def script(run: FakeRun) -> None:
        own = await run.ask("get_event", run_pull_pb2.RunnerServiceGetEventRequest())
        assert own.event == run.context.event and own.input.text == "second"
        request = run_pull_pb2.RunnerServiceGetEventRequest(event_id=first.event_id)
        assert (await run.ask("get_event", request)).input.text == "first"
        request.event_id = foreign.event_id
        assert (await run.ask("get_event", request)).code == 5
        page = await run.ask("page_events", run_pull_pb2.PageEventsRequest(limit=1))
        assert [event.event_id for event in page.events] == [run.context.event.event_id]
        page = await run.ask("page_events", run_pull_pb2.PageEventsRequest(before=page.before_cursor))
        assert [event.event_id for event in page.events] == [first.event_id] and not page.before_cursor

    await played(host, runtime, script, "second", chat="same")


async def test_a_model_is_streamed_in_packs_and_measured(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        request = run_model_pb2.StreamModelRequest(request=_question("demo"))
        answers = await run.ask_all("stream_model", request)
        text = "".join(delta.text for one in answers for delta in one.stream_model.deltas)
        whole = answers[-1].stream_model.answer
        assert whole.message.parts[0].text.text == text and whole.model_id == "demo"
        assert len(answers) < sum(len(one.stream_model.deltas) for one in answers)
        invoked = await run.ask("invoke_model", run_model_pb2.InvokeModelRequest(request=_question("demo")))
        assert invoked.answer.message.parts[0].text.text == text
        counted = await run.ask("count_tokens", run_model_pb2.CountTokensRequest(request=_question("demo")))
        assert counted.input_tokens == whole.usage.input_tokens
        assert (await run.ask("embed_texts", run_model_pb2.EmbedTextsRequest(model_id="demo", texts=["x"]))).code

    run = await played(host, runtime, script)
    assert run.usage.input_tokens > 0 and run.usage.output_tokens > 0 and run.usage.model_id == "demo"


async def test_the_prompt_is_handed_over_with_its_source(runtime: FakeRuntime, host: Hosted) -> None:
    manifest = a_manifest()
    manifest.config_schema.add(name="prompt", type="CONFIG_FIELD_TYPE_PROMPT_EDITOR")
    runtime.manifest.CopyFrom(manifest)
    await host.set_agent(config_json='{"prompt": [{"role": "system", "content": "Be kind."}]}')
    await until(lambda: bool(host.parts.runtime.state.connected))

    async def script(run: FakeRun) -> None:
        answer = await run.ask("get_prompt", run_pull_pb2.GetPromptRequest())
        assert all(one.source == "agent.config.prompt" for one in answer.fragments)

    await played(host, runtime, script)


def _question(model_id: str) -> run_model_pb2.ModelRequest:
    message = run_model_pb2.ModelMessage(role=content_pb2.MESSAGE_ROLE_USER, parts=[text_part("what is this?")])
    return run_model_pb2.ModelRequest(model_id=model_id, messages=[message])


async def _audit(host: Hosted, run_id: str) -> list[str]:
    """The actions of the run that were refused."""
    audit = StoredAudit(host.parts.stores.database.reader)
    refused = AuditFilter(run_id=run_id, refused_only=True)
    return [record.action for record in await audit.page(WORKSPACE, refused, NEWEST, 100)]
