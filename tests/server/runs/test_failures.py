"""Everything that a runner can do wrong: each has its code, one notice for people, and leaves the next run healthy."""

from pathlib import Path

import pytest

from portway.rpc.errors import Cancelled, InternalError, PortwayError, Reason, Unavailable
from portway.server.agents.types import InterruptedPolicy, NoticeTexts, RetryPolicy
from portway.v1 import run_pb2, runner_pb2
from tests.fakes.runtime_server import (
    RUNNER,
    FakeRun,
    FakeRuntime,
    Script,
    a_manifest,
    answer_hello,
    serve_fake_runtime,
)
from tests.server.hosting import Hosted, hosted


async def skips_a_number(run: FakeRun) -> None:
    run.sequence += 1
    await run.send(run.completed())


async def repeats_a_number(run: FakeRun) -> None:
    await run.say("one")
    run.sequence -= 1
    await run.send(run.completed())


async def goes_on_after_its_end(run: FakeRun) -> None:
    await run.send(run.completed())
    await run.say("or not")


async def sends_too_much(run: FakeRun) -> None:
    await run.send(run.result(message_delta={"message_key": "k", "text": "x" * (1024 * 1024 + 1)}))


async def ends_without_a_terminal(run: FakeRun) -> None:
    await run.say("and then")


async def says_nothing(run: FakeRun) -> None:
    await run.send(run.completed())


async def fails(run: FakeRun) -> None:
    error = {"code": "harness.nonzero_exit", "message": "it ended with 3"}
    await run.send(run.result(run_failed={"error": error}))


async def crashes(run: FakeRun) -> None:
    await run.say("I am not")
    raise Unavailable("the process was killed by signal 9", reason=Reason.RUNNER_CRASHED)


async def does_not_start(run: FakeRun) -> None:
    raise Unavailable("it exits at once", reason=Reason.RUNNER_UNAVAILABLE)


async def has_a_bug(run: FakeRun) -> None:
    raise InternalError("err_1 in the log")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (skips_a_number, "runner.protocol"),
        (repeats_a_number, "runner.protocol"),
        (goes_on_after_its_end, "runner.protocol"),
        (sends_too_much, "runner.protocol"),
        (ends_without_a_terminal, "runner.no_terminal_result"),
        (says_nothing, "runner.empty_output"),
        (fails, "harness.nonzero_exit"),
        (crashes, "runner.crashed"),
        (does_not_start, "runner.unavailable"),
        (has_a_bug, "runner.error"),
    ],
)
async def test_a_run_that_goes_wrong_fails_with_its_code_and_tells_people_once(
    host: Hosted, runtime: FakeRuntime, script: Script, code: str
) -> None:
    runtime.script = script
    accepted = await host.submit()
    events = await host.watch(accepted.run_id)
    run = await host.run(accepted.run_id)

    assert run.state == run_pb2.RUN_STATE_FAILED and run.error.code == code, run.error
    assert run.error.message
    assert events[-1].run_failed.error.code == code
    kinds = [(item.role.value, item.kind) for item in await host.transcript(accepted.conversation_id)]
    assert kinds == [("user", "message"), ("system", "notice")]
    notice = next(event.notice for event in events if event.WhichOneof("kind") == "notice")
    assert notice.code == code and notice.item_id

    runtime.script = answer_hello
    assert (await host.asked("and now?")).state == run_pb2.RUN_STATE_COMPLETED


async def test_an_unknown_kind_is_recorded_and_ignored(host: Hosted, runtime: FakeRuntime) -> None:
    async def speaks_a_newer_protocol(run: FakeRun) -> None:
        frame = run.result(progress={"text": "x"})
        # A kind with the number 99, as a later version of the contract might have.
        raw = frame.result.SerializeToString()
        frame.result.Clear()
        frame.result.MergeFromString(raw[: raw.index(b"\x8a\x01")] + b"\x9a\x06\x02hi")
        await run.send(frame)
        await run.answer("fine")

    runtime.script = speaks_a_newer_protocol
    accepted = await host.submit()
    events = await host.watch(accepted.run_id)
    assert [e.recorded.reason for e in events if e.WhichOneof("kind") == "recorded"] == ["UNKNOWN_KIND"]
    assert events[-1].WhichOneof("kind") == "run_completed"


async def test_what_changes_something_and_breaks_a_rule_is_refused_and_recorded(
    host: Hosted, runtime: FakeRuntime
) -> None:
    async def breaks_rules(run: FakeRun) -> None:
        await run.send(
            run.result(state_updated={"scope": "STATE_SCOPE_CONVERSATION", "key": "k", "value_json": "no json"}),
            run.result(state_updated={"scope": "STATE_SCOPE_SUBJECT", "key": "k", "value_json": "1"}),
            run.result(artifact_created={"artifact": {"artifact_id": "art_of_nobody"}}),
            run.result(action_requested={"request_id": "r", "action": {"action": "message.recall"}}),
        )
        await run.answer("done")

    runtime.script = breaks_rules
    accepted = await host.submit()
    events = await host.watch(accepted.run_id)
    reasons = [e.recorded.reason for e in events if e.WhichOneof("kind") == "recorded"]
    assert reasons == ["INVALID_FIELD", "NOT_FOUND", "NOT_FOUND", "NOT_GRANTED"]
    assert (await host.run(accepted.run_id)).state == run_pb2.RUN_STATE_COMPLETED


async def test_a_retryable_failure_is_tried_again_as_often_as_the_agent_says(
    host: Hosted, runtime: FakeRuntime
) -> None:
    await host.set_agent(retry_policy=RetryPolicy(max_attempts=3, first_delay_seconds=0.01))

    async def third_time_lucky(run: FakeRun) -> None:
        if run.context.attempt < 3:
            await run.say("wrong ")
            await crashes(run)
        await run.answer("right")

    runtime.script = third_time_lucky
    accepted = await host.submit()
    events = await host.watch(accepted.run_id)
    run = await host.run(accepted.run_id)
    assert run.state == run_pb2.RUN_STATE_COMPLETED and run.attempt == 3
    assert [event.reset.attempt for event in events if event.WhichOneof("kind") == "reset"] == [2, 3]
    assert [event.sequence for event in events if event.sequence] == list(range(1, run.last_sequence + 1))
    assert [item.text for item in await host.transcript(accepted.conversation_id)] == ["hi", "right"]


@pytest.mark.parametrize(
    ("policy", "gone", "attempts", "state"),
    [
        (InterruptedPolicy.RETRY, Unavailable("the runtime is gone"), 2, run_pb2.RUN_STATE_COMPLETED),
        (InterruptedPolicy.RETRY, Cancelled("the connection was given up"), 2, run_pb2.RUN_STATE_COMPLETED),
        (InterruptedPolicy.FAIL, Unavailable("the runtime is gone"), 1, run_pb2.RUN_STATE_FAILED),
    ],
)
async def test_a_run_that_was_cut_off_with_the_runtime_follows_the_agents_policy(
    host: Hosted, runtime: FakeRuntime, policy: InterruptedPolicy, gone: PortwayError, attempts: int, state: int
) -> None:
    await host.set_agent(on_interrupted=policy)

    async def is_cut_off_once(run: FakeRun) -> None:
        if run.context.attempt == 1:
            await run.say("half an ")
            raise gone
        await run.answer("whole")

    runtime.script = is_cut_off_once
    accepted = await host.submit()
    run = await host.ended(accepted.run_id)
    assert run.attempt == attempts and run.state == state
    said = [item.text for item in await host.transcript(accepted.conversation_id)]
    assert len(said) == 2 and (said[1] == "whole") == (attempts == 2)


async def test_what_people_have_seen_is_not_said_again_by_another_attempt(host: Hosted, runtime: FakeRuntime) -> None:
    await host.set_agent(retry_policy=RetryPolicy(max_attempts=3, first_delay_seconds=0.01))

    async def speaks_and_crashes(run: FakeRun) -> None:
        await run.send(run.message("half an answer"))
        await crashes(run)

    runtime.script = speaks_and_crashes
    accepted = await host.submit()
    run = await host.ended(accepted.run_id)
    assert run.attempt == 1 and run.error.code == "runner.crashed"


async def test_an_agent_has_its_own_words_for_failures(host: Hosted, runtime: FakeRuntime) -> None:
    texts = NoticeTexts(failed={"de": "Das ging schief.", "en": "It broke."})
    await host.set_agent(notices=texts, locale="de-AT")
    runtime.script = fails
    accepted = await host.submit()
    await host.ended(accepted.run_id)
    assert (await host.transcript(accepted.conversation_id))[-1].text == "Das ging schief."


async def test_a_runner_that_the_runtime_does_not_have_fails_the_run_and_names_those_it_has(host: Hosted) -> None:
    await host.set_agent(runner_id="plugin:a/b/c")
    accepted = await host.submit()
    run = await host.ended(accepted.run_id)
    assert run.error.code == "runner.unavailable" and RUNNER in run.error.message


async def test_an_agent_that_names_an_unknown_model_fails_with_a_hint(tmp_path: Path) -> None:
    manifest = a_manifest()
    manifest.config_schema.add(name="model", type=runner_pb2.CONFIG_FIELD_TYPE_LLM_MODEL_SELECTOR)
    async with serve_fake_runtime(FakeRuntime(manifest=manifest)) as runtime, hosted(tmp_path, runtime) as host:
        await host.set_agent(config_json='{"model": "dmeo"}')
        run = await host.asked()
    assert "dmeo" in run.error.message and "did you mean" in run.error.message


async def test_an_answer_stands_when_the_runner_goes_on_after_its_end(host: Hosted, runtime: FakeRuntime) -> None:
    async def cannot_stop(run: FakeRun) -> None:
        await run.answer("that was it")
        await run.say("or not")

    runtime.script = cannot_stop
    accepted = await host.submit()
    run = await host.ended(accepted.run_id)
    assert run.error.code == "runner.protocol"
    assert [item.text for item in await host.transcript(accepted.conversation_id)] == ["hi", "that was it"]
