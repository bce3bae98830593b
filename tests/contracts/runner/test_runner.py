"""What every runner must do, whatever it is written in. Host and runtime are real; the runner is the subject."""

from portway.rpc.errors import NotFound, Reason
from portway.runtime.sdk.testing.things import Things, transcript
from portway.v1 import runtime_pb2
from tests.contracts.runner.conftest import Subject


async def test_it_offers_what_its_manifest_names(subject: Subject) -> None:
    await subject.host.finished("empty", subject.runner_id)
    answer = await subject.stub.GetPlugin(runtime_pb2.GetPluginRequest(plugin_id=subject.plugin_id))
    assert answer.plugin.state == runtime_pb2.PLUGIN_STATE_RUNNING
    assert subject.runner_id in {component.id for component in answer.plugin.components}


async def test_it_answers_and_ends_with_one_terminal_result(subject: Subject) -> None:
    run = await subject.host.finished("ok hello", subject.runner_id)
    assert run.kinds == ["message_completed", "run_completed"]
    assert run.message == "hello"


async def test_results_carry_the_run_and_a_sequence_without_gaps(subject: Subject) -> None:
    run = await subject.host.finished("streamed a b c", subject.runner_id)
    assert run.kinds == ["message_delta"] * 3 + ["message_completed", "run_completed"]
    assert [result.sequence for result in run.results] == [1, 2, 3, 4, 5]
    assert {result.run_id for result in run.results} == {"run_1"}


async def test_it_may_say_nothing(subject: Subject) -> None:
    assert (await subject.host.finished("empty", subject.runner_id)).kinds == ["run_completed"]


async def test_it_can_fail_with_a_code_of_its_choice(subject: Subject) -> None:
    run = await subject.host.finished("fail", subject.runner_id)
    assert run.error.code == "harness.cli_missing"
    assert (await subject.host.finished("ok healthy", subject.runner_id)).message == "healthy"


async def test_a_cancel_ends_it(subject: Subject) -> None:
    async with subject.host.run("hang", subject.runner_id) as run:
        await run.until("message_delta")
        await run.cancel()
        await run.until_end()
    assert run.error.code == "cancelled"


async def test_one_that_ignores_a_cancel_is_replaced(subject: Subject) -> None:
    async with subject.host.run("stubborn", subject.runner_id) as run:
        await run.until("message_delta")
        await run.cancel()
    before = await subject.host.finished("about", subject.runner_id)
    await subject.stub.RecyclePlugin(runtime_pb2.RecyclePluginRequest(plugin_id=subject.plugin_id))
    after = await subject.host.finished("about", subject.runner_id)
    assert before.message.split()[0] != after.message.split()[0]


async def test_its_crash_is_told_as_one_and_the_next_run_works(subject: Subject) -> None:
    async with subject.host.run("crash", subject.runner_id) as run:
        assert (await run.failure()).reason == Reason.RUNNER_CRASHED
    assert (await subject.host.finished("ok back", subject.runner_id)).message == "back"


async def test_a_hundred_thousand_deltas_arrive(subject: Subject) -> None:
    run = await subject.host.finished("flood 100000", subject.runner_id)
    texts = [result.message_delta.text for result in run.results[:-1]]
    assert texts == [f"{number} " for number in range(100_000)]
    assert run.kinds[-1] == "run_completed"


async def test_it_asks_the_host_on_its_own_stream(subject: Subject) -> None:
    things = Things(history=transcript("one", "two", "three"))
    run = await subject.host.finished("history 2", subject.runner_id, things=things)
    assert run.message == "two|three"


async def test_many_runs_are_under_way_at_once(subject: Subject) -> None:
    async with subject.host.run("hang", subject.runner_id) as first:
        await first.until("message_delta")
        for number in range(20):
            assert (await subject.host.finished(f"ok {number}", subject.runner_id)).message == str(number)
        await first.cancel()
        await first.until_end()


async def test_a_runner_that_it_does_not_have_is_not_found(subject: Subject) -> None:
    async with subject.host.run("ok", f"{subject.runner_id}-other") as run:
        assert isinstance(await run.failure(), NotFound)
