"""A run asks people something, which is its last word; the verified answer starts a linked run."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from portway.rpc.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    NotPermitted,
    PayloadTooLarge,
    PortwayError,
    Reason,
    WrongState,
)
from portway.rpc.status import errors_by_meaning
from portway.server.agents.types import DeliveryPolicy
from portway.server.workspaces.store import ensure_workspace
from portway.v1 import interaction_pb2, run_call_pb2, run_pb2, run_pb2_grpc, run_pull_pb2, run_result_pb2
from tests.asking_people import ASKING, a_field, a_form, an_answer, ask, completes, questions, submit
from tests.fakes.runtime_server import FakeRun, FakeRuntime, answer_hello, serve_fake_runtime
from tests.server.callers import calling_as
from tests.server.hosting import Hosted, a_message, hosted
from tests.server.playing import played
from tests.waiting import until_told

COMPLETED = run_pb2.RUN_STATE_COMPLETED
AWAITING = run_result_pb2.FINISH_REASON_AWAITING_INTERACTION
CONVERSATION = run_result_pb2.STATE_SCOPE_CONVERSATION


@pytest.fixture
async def runtime(runtime: FakeRuntime) -> FakeRuntime:
    runtime.manifest = ASKING
    return runtime


async def asks(run: FakeRun) -> None:
    update = run_pull_pb2.SetStateRequest(scope=CONVERSATION, key="trip", value_json='"begun"')
    await run.ask("set_state", update)
    receipt = await ask(run, a_form())
    assert receipt.expire_time.ToMicroseconds() > 0, receipt
    await run.send(completes(run))


async def an_asked_run(host: Hosted, runtime: FakeRuntime, **submit: Any) -> run_pb2.Run:
    runtime.script = asks
    run = await host.asked("a trip", **submit)
    assert (run.state, run.finish_reason) == (COMPLETED, AWAITING), run
    return run


async def test_the_answer_starts_a_linked_run_with_the_same_state(host: Hosted, runtime: FakeRuntime) -> None:
    asked = await an_asked_run(host, runtime)
    seen: list[Any] = []

    async def goes_on(run: FakeRun) -> None:
        seen.append(run.context)
        found = await run.ask("get_state", run_pull_pb2.GetStateRequest(scope=CONVERSATION, key="trip"))
        assert found.value.value_json == '"begun"'
        await run.answer("booked")

    runtime.script = goes_on
    answer = an_answer(asked.run_id, city="Rome", seats=2)
    answer.values["class"] = "second"
    submitted = await submit(host, answer)
    linked = await host.ended(submitted.run_id)
    assert linked.state == COMPLETED and linked.parent_run_id == asked.run_id and linked.event_id == submitted.event_id
    (context,) = seen
    assert context.event.type == "interaction.submitted" and context.parent_run_id == asked.run_id
    assert context.input.interaction.values["city"] == "Rome" and not context.input.text
    assert context.input.interaction.action_id == "submit"
    items = await host.transcript(asked.conversation_id)
    assert [(item.kind, item.role.value) for item in items] == [
        ("message", "user"),
        ("interaction", "assistant"),
        ("interaction", "system"),
        ("message", "assistant"),
    ]
    assert items[2].text == "Where to?: Submit — City: Rome — Class: Second — Seats: 2"
    (record,) = await questions(host, run_id=asked.run_id)
    assert record.state == interaction_pb2.INTERACTION_STATE_ANSWERED and record.answer_run_id == linked.run_id


async def test_the_question_stands_in_the_ledger_before_the_end(host: Hosted, runtime: FakeRuntime) -> None:
    asked = await an_asked_run(host, runtime)
    kinds = [event.WhichOneof("kind") for event in await host.watch(asked.run_id, committed_only=True)]
    assert kinds == ["state_changed", "action_requested", "run_completed"]


async def test_a_question_as_a_result_is_the_same(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        await run.send(
            run.message("one moment"),
            run.result(action_requested={"request_id": "r1", "interaction": a_form()}),
            completes(run),
        )

    runtime.script = script
    run = await host.asked()
    assert run.finish_reason == AWAITING
    assert (await submit(host, an_answer(run.run_id, city="Rome"))).run_id
    kinds = [event.WhichOneof("kind") for event in await host.watch(run.run_id, committed_only=True)]
    assert kinds == ["state_changed", "message_completed", "action_requested", "run_completed"]


async def test_asking_with_the_run_token(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        async with host.runner(run.start.run_token) as calls:
            with errors_by_meaning():
                request = run_pull_pb2.RequestInteractionRequest(interaction=a_form())
                first = await calls.RequestInteraction(request)
                again = await calls.RequestInteraction(request)
            assert first == again
            session = calls.OpenSession()
            call = run_call_pb2.RunCall(call_id=1, request_interaction=request)
            await session.write(run_call_pb2.OpenSessionRequest(calls=[call]))
            answer = (await session.read()).answers[0]
            assert answer.request_interaction == first
            session.cancel()
        await run.send(completes(run))

    runtime.script = script
    run = await host.asked()
    assert run.finish_reason == AWAITING and len(await questions(host, run_id=run.run_id)) == 1


async def test_a_run_asks_once(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        await ask(run, a_form())
        second = await ask(run, a_form("q2"))
        assert second.reason == Reason.AWAITING_INTERACTION
        other = await ask(run, a_form(title="Something else"))
        assert other.reason == Reason.SAME_KEY_OTHER_BODY
        await run.send(run.result(run_completed={"finish_reason": "FINISH_REASON_STOP"}))

    runtime.script = script
    run = await host.asked()
    # Whatever it calls its end: it has asked.
    assert run.finish_reason == AWAITING and len(await questions(host, run_id=run.run_id)) == 1


async def test_a_runner_that_fails_after_asking_has_asked_all_the_same(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        await ask(run, a_form())
        await run.send(run.result(run_failed={"error": {"code": "runner.error", "message": "oh"}}))

    runtime.script = script
    run = await host.asked()
    assert (run.state, run.finish_reason) == (COMPLETED, AWAITING)
    recorded = [event.recorded for event in await host.watch(run.run_id) if event.HasField("recorded")]
    assert [one.reason for one in recorded] == ["FAILED_AFTER_ASKING"]
    assert (await submit(host, an_answer(run.run_id, city="Rome"))).run_id


async def test_a_runner_that_goes_on_after_asking_is_told_to_stop(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        await ask(run, a_form())
        await run.cancelled.wait()
        await run.send(run.result(run_failed={"error": {"code": "cancelled"}}))

    runtime.script = script
    run = await host.asked()
    assert (run.state, run.finish_reason) == (COMPLETED, AWAITING)
    assert "asked" in runtime.runs[0].reason and not runtime.recycled


async def test_a_runner_that_waits_for_nobody_says_nothing(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        await run.send(completes(run))

    runtime.script = script
    run = await host.asked()
    assert run.error.code == "runner.empty_output"


async def test_wrong_questions_are_refused_field_by_field(host: Hosted, runtime: FakeRuntime) -> None:
    wrong = {
        "interaction.fallback_text": a_form(fallback_text=" "),
        "interaction.fields": a_form(fields=[]),
        "interaction.fields[1]": a_form(fields=[a_field("a"), a_field("a")]),
        "interaction.fields[0].options": a_form(fields=[a_field("a", "SELECT")]),
        "interaction.actions": a_form(kind=interaction_pb2.INTERACTION_KIND_CHOICE, fields=[]),
    }
    bad_default = a_form()
    bad_default.fields[1].default_value.string_value = "third"
    wrong["interaction.fields[1].default_value"] = bad_default
    for when, field in ((timedelta(hours=25), "late"), (timedelta(hours=-1), "early")):
        timed = a_form(interaction_id=field)
        timed.expire_time.FromDatetime(datetime.now(UTC) + when)
        wrong[f"interaction.expire_time {field}"] = timed

    async def script(run: FakeRun) -> None:
        for field, question in wrong.items():
            error = await ask(run, question)
            assert [one.field for one in error.violations] == [field.partition(" ")[0]], (field, error)
        big = a_form(
            fields=[a_field(f"f{n}", "SELECT", options=[f"{m}-{'x' * 500}" for m in range(60)]) for n in range(10)]
        )
        assert (await ask(run, big)).reason == Reason.PAYLOAD_TOO_LARGE

    assert (await played(host, runtime, script)).state == COMPLETED


async def test_an_agent_whose_policy_has_no_questions_asks_none(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        assert (await ask(run, a_form())).reason == Reason.NOT_GRANTED

    await host.set_agent(delivery_policy=DeliveryPolicy(interactions_disabled=True))
    assert (await played(host, runtime, script)).state == COMPLETED


async def test_a_runner_without_the_capability_asks_nothing(tmp_path: Path) -> None:
    async def script(run: FakeRun) -> None:
        assert (await ask(run, a_form())).reason == Reason.NOT_GRANTED

    async with serve_fake_runtime(FakeRuntime()) as runtime, hosted(tmp_path, runtime) as host:
        await host.set_agent()
        assert (await played(host, runtime, script)).state == COMPLETED


async def refused(host: Hosted, answer: interaction_pb2.InteractionAnswer, meaning: type[PortwayError]) -> PortwayError:
    with pytest.raises(meaning) as error:
        await submit(host, answer)
    return error.value


async def test_wrong_answers_are_refused_field_by_field(host: Hosted, runtime: FakeRuntime) -> None:
    run_id = (await an_asked_run(host, runtime)).run_id
    runtime.script = answer_hello
    wrong: dict[str, dict[str, Any]] = {
        "answer.values.city": {"seats": 1},
        "answer.values.class": {"city": "Rome", "class": "third"},
        "answer.values.seats": {"city": "Rome", "seats": "many"},
        "answer.values.colour": {"city": "Rome", "colour": "red"},
        "answer.action_id": {"city": "Rome", "action_id": "explode"},
    }
    for field, values in wrong.items():
        answer = an_answer(run_id, action_id=values.pop("action_id", ""))
        answer.values.update(values)
        error = await refused(host, answer, InvalidInput)
        assert [one.field for one in error.fields] == [field]
    await refused(host, an_answer("run_nobody", city="Rome"), NotFound)
    await refused(host, an_answer(run_id, "q2", city="Rome"), NotFound)
    huge = await refused(host, an_answer(run_id, city="x" * 300_000), PayloadTooLarge)
    assert huge.reason == Reason.PAYLOAD_TOO_LARGE
    assert (await submit(host, an_answer(run_id, city="Rome"))).run_id


async def test_one_answer_counts_and_the_same_again_is_a_duplicate(host: Hosted, runtime: FakeRuntime) -> None:
    asked = await an_asked_run(host, runtime)
    runtime.script = answer_hello
    answers = await asyncio.gather(
        *(submit(host, an_answer(asked.run_id, city=f"city {number % 2}")) for number in range(20)),
        return_exceptions=True,
    )
    taken = [one for one in answers if not isinstance(one, BaseException)]
    assert len({one.run_id for one in taken}) == 1 and sum(not one.duplicate for one in taken) == 1
    assert all(isinstance(one, Conflict) for one in answers if isinstance(one, BaseException))
    assert len(taken) == 10
    await host.ended(taken[0].run_id)
    assert len(runtime.runs) == 2


async def test_an_expired_question_is_not_answered_and_people_see_that(host: Hosted, runtime: FakeRuntime) -> None:
    question = a_form()

    async def script(run: FakeRun) -> None:
        question.expire_time.FromDatetime(datetime.now(UTC) + timedelta(milliseconds=200))
        await ask(run, question)
        await run.send(completes(run))

    runtime.script = script
    run = await host.asked()

    async def expired() -> bool:
        await host.parts.people.expiry.sweep()
        (record,) = await questions(host, run_id=run.run_id)
        return record.state == interaction_pb2.INTERACTION_STATE_EXPIRED

    await until_told(expired)
    error = await refused(host, an_answer(run.run_id, city="Rome"), WrongState)
    assert error.reason == Reason.INTERACTION_EXPIRED
    item = (await host.transcript(run.conversation_id))[1]
    assert item.edit_time and not await questions(host, open_only=True)


async def test_a_cancel_withdraws_the_question(host: Hosted, runtime: FakeRuntime) -> None:
    asked = asyncio.Event()

    async def script(run: FakeRun) -> None:
        await ask(run, a_form())
        asked.set()
        await run.cancelled.wait()
        await run.send(run.result(run_failed={"error": {"code": "cancelled"}}))

    runtime.script = script
    accepted = await host.submit()
    await asked.wait()
    with errors_by_meaning():
        cancelled = await host.runs.CancelRun(run_pb2.CancelRunRequest(run_id=accepted.run_id))
    assert cancelled.run.state == run_pb2.RUN_STATE_CANCELLED
    (record,) = await questions(host, run_id=accepted.run_id)
    assert record.state == interaction_pb2.INTERACTION_STATE_WITHDRAWN
    error = await refused(host, an_answer(accepted.run_id, city="Rome"), WrongState)
    assert error.reason == Reason.INTERACTION_WITHDRAWN


async def test_only_who_was_asked_may_answer_where_the_question_says_so(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        await ask(run, a_form(only_asked_actor=True))
        await run.send(completes(run))

    runtime.script = script
    run = await host.asked()
    await refused(host, an_answer(run.run_id, city="Rome"), NotPermitted)
    event = a_message(chat="chat-1")
    event.type = "interaction.submitted"
    del event.parts[:]
    event.interaction.CopyFrom(an_answer(run.run_id, city="Rome"))
    accepted = await host.submit(event)
    assert accepted.run_id and accepted.conversation_id == run.conversation_id


async def test_questions_of_another_workspace_do_not_exist(host: Hosted, runtime: FakeRuntime) -> None:
    asked = await an_asked_run(host, runtime)
    await host.parts.stores.database.writer.run(lambda tx: ensure_workspace(tx, "elsewhere", "Elsewhere"))
    async with calling_as(host, "operator", "elsewhere") as channel:
        stub = run_pb2_grpc.RunServiceStub(channel)
        with errors_by_meaning():
            assert not (await stub.ListInteractions(run_pb2.ListInteractionsRequest())).interactions
        with pytest.raises(NotFound), errors_by_meaning():
            await stub.SubmitInteraction(
                run_pb2.SubmitInteractionRequest(answer=an_answer(asked.run_id, city="Rome"), request_id="r")
            )


async def test_questions_come_in_pages(host: Hosted, runtime: FakeRuntime) -> None:
    runs = [await an_asked_run(host, runtime, chat=f"chat {number}") for number in range(3)]
    with errors_by_meaning():
        first = await host.runs.ListInteractions(run_pb2.ListInteractionsRequest(page_size=2))
        token = first.next_page_token
        rest = await host.runs.ListInteractions(run_pb2.ListInteractionsRequest(page_size=2, page_token=token))
    with pytest.raises(InvalidInput), errors_by_meaning():
        await host.runs.ListInteractions(run_pb2.ListInteractionsRequest(page_token=token, open_only=True))
    found = [one.run_id for one in (*first.interactions, *rest.interactions)]
    assert found == [run.run_id for run in reversed(runs)] and not rest.next_page_token
