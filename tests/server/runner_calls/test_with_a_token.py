"""The same calls with the run's token: one by one, and many on a session."""

import asyncio

import pytest

from portway.rpc.channel import open_channel
from portway.rpc.errors import InvalidInput, NotAuthenticated, NotFound, NotPermitted, Reason, WrongState
from portway.rpc.status import errors_by_meaning
from portway.v1 import content_pb2, run_call_pb2, run_model_pb2, run_pb2, run_pb2_grpc, run_pull_pb2, run_result_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.hosting import Hosted, text_part
from tests.server.playing import played
from tests.waiting import until

CONVERSATION = run_result_pb2.STATE_SCOPE_CONVERSATION


async def test_the_unary_methods_do_what_the_stream_does(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        async with host.runner(run.start.run_token) as calls:
            with errors_by_meaning():
                written = await calls.SetState(
                    run_pull_pb2.SetStateRequest(scope=CONVERSATION, key="k", value_json="[1]")
                )
                assert written.version == 1
                found = await run.ask("get_state", run_pull_pb2.GetStateRequest(scope=CONVERSATION, key="k"))
                assert found.value.value_json == "[1]"
                page = await calls.PageHistory(run_pull_pb2.PageHistoryRequest())
                assert [item.content for item in page.items] == ["hi"]
                question = run_model_pb2.ModelRequest(
                    model_id="demo",
                    messages=[
                        run_model_pb2.ModelMessage(role=content_pb2.MESSAGE_ROLE_USER, parts=[text_part("hello")])
                    ],
                )
                pieces = [
                    answer async for answer in calls.StreamModel(run_model_pb2.StreamModelRequest(request=question))
                ]
                assert pieces[-1].HasField("answer")

                async def upload() -> object:
                    yield run_pull_pb2.RunnerServiceCreateArtifactRequest(
                        artifact=content_pb2.ArtifactRef(name="x"), data=b"12"
                    )
                    yield run_pull_pb2.RunnerServiceCreateArtifactRequest(data=b"34")

                made = await calls.CreateArtifact(upload())
                assert made.artifact.size == 4

    await played(host, runtime, script)


async def test_a_session_answers_many_calls_out_of_order_and_a_failure_ends_only_its_call(
    host: Hosted, runtime: FakeRuntime
) -> None:
    async def script(run: FakeRun) -> None:
        async with host.runner(run.start.run_token) as calls:
            session = calls.OpenSession()
            request = run_call_pb2.OpenSessionRequest()
            for number in range(1, 51):
                call = request.calls.add(call_id=number)
                call.set_state.scope, call.set_state.key, call.set_state.value_json = CONVERSATION, f"k{number}", "1"
            request.calls.add(call_id=99).get_state.key = "no scope"
            await session.write(request)
            answers: dict[int, run_call_pb2.RunAnswer] = {}
            async for response in session:
                answers.update({answer.call_id: answer for answer in response.answers})
                if len(answers) == 51:
                    await session.done_writing()
            assert all(answers[number].set_state.version == 1 for number in range(1, 51))
            assert answers[99].error.code == 3

    await played(host, runtime, script)


async def test_a_token_opens_nothing_else_and_a_wrong_one_opens_nothing(host: Hosted, runtime: FakeRuntime) -> None:
    async def script(run: FakeRun) -> None:
        token = run.start.run_token
        async with host.runner(token[:-1] + ("0" if token[-1] != "0" else "1")) as calls:
            with pytest.raises(NotAuthenticated), errors_by_meaning():
                await calls.GetPrompt(run_pull_pb2.GetPromptRequest())
        async with host.runner(host.admin_token) as calls:
            with pytest.raises(WrongState), errors_by_meaning():
                await calls.GetPrompt(run_pull_pb2.GetPromptRequest())
        async with host.runner(token) as calls:
            with pytest.raises(InvalidInput), errors_by_meaning():
                await calls.GetState(run_pull_pb2.GetStateRequest())
            missing = run_pull_pb2.RunnerServiceGetArtifactRequest(artifact_id="art_none")
            with pytest.raises(NotFound), errors_by_meaning():
                await calls.GetArtifact(missing)

    await played(host, runtime, script)


async def test_a_run_cannot_call_what_operators_call(host: Hosted, runtime: FakeRuntime) -> None:

    async def script(run: FakeRun) -> None:
        async with open_channel(host.address, token=run.start.run_token) as channel:
            with pytest.raises(NotPermitted), errors_by_meaning():
                await run_pb2_grpc.RunServiceStub(channel).ListRuns(run_pb2.ListRunsRequest())

    await played(host, runtime, script)


async def test_a_session_that_outlives_its_run_hears_that_the_run_has_ended(host: Hosted, runtime: FakeRuntime) -> None:
    end = asyncio.Event()

    async def script(run: FakeRun) -> None:
        await end.wait()
        await run.answer("bye")

    runtime.script = script
    accepted = await host.submit()
    await until(lambda: bool(runtime.runs))
    async with host.runner(runtime.runs[0].start.run_token) as calls:
        session = calls.OpenSession()
        request = run_call_pb2.OpenSessionRequest()
        request.calls.add(call_id=1).get_prompt.SetInParent()
        await session.write(request)
        assert (await session.read()).answers[0].HasField("get_prompt")
        end.set()
        await host.ended(accepted.run_id)
        with pytest.raises(WrongState) as caught, errors_by_meaning():
            await session.write(request)
            while await session.read():
                await session.write(request)
    assert caught.value.reason == Reason.RUN_FINISHED
