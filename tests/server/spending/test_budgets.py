"""Budgets over the wire: each dimension, on each level, ends runs, refuses events and is told."""

import asyncio
from typing import Any

import pytest

from portway.rpc.errors import InvalidInput, NotFound
from portway.server.agents.types import Budget, RetryPolicy
from portway.v1 import agent_pb2, audit_pb2, event_pb2, run_pb2, spending_pb2
from tests.asking import ask
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.hosting import Hosted, a_message
from tests.server.playing import played
from tests.server.spending.asking import ask_model, is_spent, keep, spending
from tests.waiting import until, until_told

SPENT = "budget.exhausted"


async def test_what_a_run_used_is_told_by_run_agent_conversation_workspace_model_and_day(
    host: Hosted, runtime: FakeRuntime
) -> None:
    usage: dict[str, int] = {}

    async def script(run: FakeRun) -> None:
        answer = await ask_model(run)
        usage.update(given=answer.answer.usage.input_tokens, said=answer.answer.usage.output_tokens)
        await keep(run, 1000)

    ended = await played(host, runtime, script)
    conversation = {"conversation_id": ended.conversation_id}
    for subject in ({"run_id": ended.run_id}, {"agent_id": "assistant"}, conversation, {}):
        found = (await spending(host, **subject)).spending
        assert (found.input_tokens, found.output_tokens) == (usage["given"], usage["said"])
        assert (found.calls, found.bytes) == (1, 1000)
        assert found.time.ToMicroseconds() > 0
    for group, name in (
        (spending_pb2.SPENDING_GROUP_AGENT, "assistant"),
        (spending_pb2.SPENDING_GROUP_CONVERSATION, ended.conversation_id),
    ):
        page = await ask(host.channel, spending_pb2.ListSpendingRequest(group=group))
        assert [share.name for share in page.shares] == [name]
    models = await ask(host.channel, spending_pb2.ListSpendingRequest(group=spending_pb2.SPENDING_GROUP_MODEL))
    assert {share.name: share.spending.calls for share in models.shares} == {"": 0, "demo": 1}
    days = await ask(host.channel, spending_pb2.ListSpendingRequest(group=spending_pb2.SPENDING_GROUP_DAY))
    assert len(days.shares) == 1 and days.shares[0].spending.bytes == 1000


async def test_a_list_of_spending_comes_in_pages(host: Hosted) -> None:
    for number in range(5):
        await host.asked(chat=f"chat-{number}")
    request = spending_pb2.ListSpendingRequest(group=spending_pb2.SPENDING_GROUP_CONVERSATION, page_size=2)
    names: list[str] = []
    while True:
        page = await ask(host.channel, request)
        names += [share.name for share in page.shares]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert len(names) == len(set(names)) == 5
    request.page_token, request.group = names[0], spending_pb2.SPENDING_GROUP_DAY
    with pytest.raises(InvalidInput):
        await ask(host.channel, request)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"agent_id": "nobody"}, NotFound),
        ({"run_id": "run_none"}, NotFound),
        ({"conversation_id": "cnv_none"}, NotFound),
        ({"month": "2026-13"}, InvalidInput),
        ({"month": "26-1"}, InvalidInput),
        ({"run_id": "run_none", "month": "2026-11"}, InvalidInput),
    ],
)
async def test_wrong_questions_are_refused(host: Hosted, request_: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        await spending(host, **request_)


async def spend(run: FakeRun, dimension: str) -> Any:
    """Use something in one dimension; the answer of the call that did."""
    if dimension == "bytes":
        return await keep(run, 600)
    if dimension == "time":
        return await run.cancelled.wait()
    return await ask_model(run)


BUDGETS = {
    "tokens": Budget(tokens=5),
    "calls": Budget(calls=1),
    "bytes": Budget(bytes=1000),
    "time": Budget(seconds=0.3),
}


@pytest.mark.parametrize("level", ["run_budget", "conversation_budget", "budget"])
@pytest.mark.parametrize("dimension", list(BUDGETS))
async def test_a_spent_budget_ends_the_run(host: Hosted, runtime: FakeRuntime, dimension: str, level: str) -> None:
    await host.set_agent(**{level: BUDGETS[dimension]})

    async def script(run: FakeRun) -> None:
        while not run.cancelled.is_set():
            answer = await spend(run, dimension)
            if is_spent(answer):
                await run.cancelled.wait()

    runtime.script = script
    run = await host.asked()
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.error.code == SPENT, run.error
    found = (await spending(host, run_id=run.run_id)).spending
    used = {
        "tokens": found.input_tokens + found.output_tokens,
        "calls": found.calls,
        "bytes": found.bytes,
        "time": found.time.ToMicroseconds() / 1e6,
    }[dimension]
    limit = {"tokens": 5, "calls": 1, "bytes": 1000, "time": 0.3}[dimension]
    if dimension in ("calls", "bytes"):
        assert used <= limit
    else:
        assert used >= limit
    notices = [item for item in await host.transcript(run.conversation_id) if item.kind == "notice"]
    assert len(notices) == 1


@pytest.mark.parametrize("level", ["conversation_budget", "budget"])
async def test_events_after_a_spent_budget_are_refused_and_explained(
    host: Hosted, runtime: FakeRuntime, level: str
) -> None:
    await host.set_agent(**{level: Budget(calls=1)})

    async def script(run: FakeRun) -> None:
        assert not is_spent(await ask_model(run))

    first = await played(host, runtime, script)
    assert first.state == run_pb2.RUN_STATE_COMPLETED
    refused = await host.submit("again")
    assert refused.outcome == event_pb2.EVENT_OUTCOME_REFUSED and not refused.run_id
    story = await ask(host.channel, event_pb2.ExplainMessageRequest(id=refused.event_id))
    assert "1 of 1 calls" in story.conclusion, story
    simulated = await ask(host.channel, event_pb2.SimulateEventRequest(event=a_message("again")))
    assert simulated.refusal_reason == "BUDGET_EXHAUSTED"
    assert [step.stage for step in simulated.steps][-1] == "budget"
    # Another chat has a budget of its own; the agent's is for all of them.
    other = await host.submit("elsewhere", chat="chat-2")
    assert (other.outcome == event_pb2.EVENT_OUTCOME_REFUSED) == (level == "budget")
    asked = await spending(host, agent_id="assistant")
    assert asked.exhausted == ("calls" if level == "budget" else "")


async def test_operators_are_told_once_at_four_fifths_and_once_at_the_end(host: Hosted, runtime: FakeRuntime) -> None:
    await host.set_agent(budget=Budget(calls=5))

    async def script(run: FakeRun) -> None:
        for _ in range(5):
            assert not is_spent(await ask_model(run))

    await played(host, runtime, script)
    for _ in range(3):
        await host.submit()

    async def entries(action: str) -> list[Any]:
        request = audit_pb2.ListAuditEntriesRequest(action=action)
        return list((await ask(host.channel, request)).audit_entries)

    async def told() -> bool:
        return bool(await entries("budget.exhausted")) and len(await entries("event.accept")) == 3

    await until_told(told)
    warnings, ends = await entries("budget.warning"), await entries("budget.exhausted")
    assert [(one.resource, one.reason) for one in warnings] == [("agent assistant", "4 of 5 calls of models and tools")]
    assert len(ends) == 1 and not ends[0].allowed


async def test_calls_at_once_do_not_overshoot(host: Hosted, runtime: FakeRuntime) -> None:
    await host.set_agent(run_budget=Budget(calls=4))
    answers: list[Any] = []

    async def script(run: FakeRun) -> None:
        answers.extend(await asyncio.gather(*(ask_model(run) for _ in range(20))))

    runtime.script = script
    run = await host.asked()
    assert run.error.code == SPENT
    assert (await spending(host, run_id=run.run_id)).spending.calls == 4


async def test_tokens_are_held_while_calls_are_under_way_and_answers_are_shortened_to_what_is_left(
    host: Hosted, runtime: FakeRuntime
) -> None:
    await host.set_agent(run_budget=Budget(tokens=100))
    answers: list[Any] = []

    async def script(run: FakeRun) -> None:
        # None of them says how long its answer may be: each holds all that is left, so they go one after the other.
        for answer in asyncio.as_completed([ask_model(run, "one two three four five six") for _ in range(12)]):
            answers.append(await answer)

    runtime.script = script
    run = await host.asked()
    assert run.error.code == SPENT
    used = (await spending(host, run_id=run.run_id)).spending
    # The last call began with a token left or more, and its input is all that can be beyond.
    assert 100 <= used.input_tokens + used.output_tokens <= 100 + 20


async def test_the_budget_of_a_run_goes_on_in_its_next_attempt(host: Hosted, runtime: FakeRuntime) -> None:
    await host.set_agent(run_budget=Budget(calls=3), retry_policy=RetryPolicy(max_attempts=3, first_delay_seconds=0.0))
    calls: list[int] = []

    async def script(run: FakeRun) -> None:
        done = 0
        for _ in range(2):
            if is_spent(await ask_model(run)):
                await run.cancelled.wait()
                return
            done += 1
        calls.append(done)
        await run.send(run.result(run_failed={"error": {"code": "runner.error", "message": "x", "retryable": True}}))

    runtime.script = script
    run = await host.asked()
    assert run.error.code == SPENT
    assert calls == [2]
    assert (await spending(host, run_id=run.run_id)).spending.calls == 3


async def test_budgets_are_read_back_after_a_good_stop_and_begin_anew_with_the_month(
    host: Hosted, runtime: FakeRuntime
) -> None:
    await host.set_agent(budget=Budget(calls=2))

    async def script(run: FakeRun) -> None:
        await ask_model(run)
        # The next month begins while the run is under way.
        accounts = host.parts.spending
        end = accounts.month().end
        accounts._clock = lambda: end + 1_000_000
        await ask_model(run)
        await ask_model(run)

    run = await played(host, runtime, script)
    assert run.state == run_pb2.RUN_STATE_COMPLETED
    this, following = host.parts.spending.month(), await spending(host)
    assert following.spending.calls == 2
    assert following.start_time.ToMicroseconds() == this.start
    before = await spending(host, month=_month_before(this.number))
    assert before.spending.calls == 1
    refused = await host.submit()
    assert refused.outcome == event_pb2.EVENT_OUTCOME_REFUSED


async def test_a_limit_set_later_counts_what_was_spent_before_it(host: Hosted, runtime: FakeRuntime) -> None:
    go_on = asyncio.Event()

    async def slow(run: FakeRun) -> None:
        await ask_model(run)
        await go_on.wait()
        await run.answer("done")

    runtime.script = slow
    under_way = await host.submit(chat="chat-1")
    await until(lambda: bool(runtime.runs))
    await until_told(lambda: _has_called(host))
    await host.set_agent(budget=Budget(calls=1))
    # The first run has not written what it used; it counts all the same.
    refused = await host.submit(chat="chat-2")
    assert refused.outcome == event_pb2.EVENT_OUTCOME_REFUSED
    go_on.set()
    assert (await host.ended(under_way.run_id)).state == run_pb2.RUN_STATE_COMPLETED


async def test_budgets_of_an_agent_are_kept_and_shown(host: Hosted) -> None:
    found = (await ask(host.channel, agent_pb2.GetAgentRequest(agent_id="assistant"))).agent
    assert found.budget.tokens == 0 and not found.budget.HasField("tokens")
    await host.set_agent(budget=Budget(tokens=7, currency="USD", cost_micros=5), conversation_budget=Budget(seconds=2))
    found = (await ask(host.channel, agent_pb2.GetAgentRequest(agent_id="assistant"))).agent
    assert (found.budget.tokens, found.budget.cost_micros) == (7, 5)
    assert found.conversation_budget.time.ToSeconds() == 2


async def _has_called(host: Hosted) -> bool:
    live = host.parts.live.all()
    return bool(live) and live[0].scope.usage.total().model_id == "demo"


def _month_before(number: int) -> str:
    year, month = divmod(number, 100)
    return f"{year if month > 1 else year - 1:04}-{month - 1 or 12:02}"
