"""What must not leave does not, whatever it stands in."""

from google.protobuf.struct_pb2 import Struct

from portway.server.agents.types import InboundGuards, NoticeTexts
from portway.server.runs.masking import mask_message
from portway.v1 import run_pb2, run_result_pb2
from tests.fakes.runtime_server import FakeRun, FakeRuntime
from tests.server.hosting import Hosted

SECRET = "sk-12345678"
GUARDS = InboundGuards(masked_outbound_patterns=(r"sk-\d+",))


async def test_nothing_that_a_run_says_holds_it(host: Hosted, runtime: FakeRuntime) -> None:
    async def talk(run: FakeRun) -> None:
        for piece in ("the key is s", "k-123", "45678, keep it"):
            await run.say(piece)
        arguments = Struct()
        arguments.update({"command": f"curl -H {SECRET}", "nested": [{"deep": SECRET}]})
        await run.send(
            run.result(progress={"text": f"using {SECRET}"}),
            run.result(tool_call_started={"call_id": "1", "tool": "exec", "arguments": arguments}),
            run.result(tool_call_completed={"call_id": "1", "tool": "exec", "result_text": f"{SECRET}\n"}),
            run.message(f"the key is {SECRET}, keep it"),
            run.result(run_failed={"error": {"code": "runner.error", "message": f"bad key {SECRET}"}}),
        )

    runtime.script = talk
    notices = NoticeTexts(failed={"en": f"call us with {SECRET}"})
    await host.set_agent(guards=GUARDS, notices=notices)
    accepted = await host.submit("tell me")
    events = await host.watch(accepted.run_id)
    everything = b"".join(event.SerializeToString() for event in events)
    assert SECRET.encode() not in everything and b"***" in everything
    assert {event.WhichOneof("kind") for event in events} >= {"progress", "tool_call_started", "message_completed"}
    texts = [item.text for item in await host.transcript(accepted.conversation_id)]
    assert "the key is ***, keep it" in texts


async def test_a_notice_is_masked_too(host: Hosted, runtime: FakeRuntime) -> None:
    async def fail(run: FakeRun) -> None:
        await run.send(run.result(run_failed={"error": {"code": "runner.error", "message": "no"}}))

    runtime.script = fail
    await host.set_agent(guards=GUARDS, notices=NoticeTexts(failed={"en": f"call us with {SECRET}"}))
    run = await host.asked("tell me")
    assert [item.text for item in await host.transcript(run.conversation_id)][1:] == ["call us with ***"]


def test_ids_and_codes_stay_as_they_are() -> None:
    event = run_pb2.RunEvent(run_id="run_sk-1", cursor="sk-2")
    event.run_failed.error.CopyFrom(run_result_pb2.RunError(code="sk-3", message="sk-4"))
    mask_message((r"sk-\d",), event)
    assert (event.run_id, event.cursor, event.run_failed.error.code) == ("run_sk-1", "sk-2", "sk-3")
    assert event.run_failed.error.message == "***"
