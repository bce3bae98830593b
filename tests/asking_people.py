"""Questions of runs and answers of people, for tests."""

from typing import Any

from google.protobuf.struct_pb2 import Struct

from portway.rpc.ids import new_id
from portway.rpc.status import errors_by_meaning
from portway.v1 import interaction_pb2 as pb
from portway.v1 import run_pb2, run_pull_pb2
from tests.fakes.runtime_server import FakeRun, a_manifest
from tests.server.hosting import Hosted

ASKING = a_manifest(capabilities=("interactions", "platform_api"), retry_safe=True)
AWAITING = "FINISH_REASON_AWAITING_INTERACTION"


def a_field(name: str, kind: str = "TEXT", **more: Any) -> pb.InteractionField:
    options = [pb.InteractionOption(value=one, label=one.title()) for one in more.pop("options", ())]
    number = pb.InteractionFieldType.Value(f"INTERACTION_FIELD_TYPE_{kind}")
    return pb.InteractionField(id=name, label=name.title(), type=number, options=options, **more)


def a_form(interaction_id: str = "q1", **more: Any) -> pb.Interaction:
    """A form with one field of each usual kind."""
    given: dict[str, Any] = {
        "kind": pb.INTERACTION_KIND_FORM,
        "title": "Where to?",
        "fallback_text": "Please say where to.",
        "fields": [
            a_field("city", required=True),
            a_field("class", "SELECT", options=("first", "second")),
            a_field("seats", "NUMBER"),
        ],
        **more,
    }
    return pb.Interaction(interaction_id=interaction_id, **given)


def an_answer(run_id: str, interaction_id: str = "q1", action_id: str = "", **values: Any) -> pb.InteractionAnswer:
    answer = pb.InteractionAnswer(run_id=run_id, interaction_id=interaction_id, action_id=action_id)
    fields = Struct()
    fields.update(values)
    answer.values.CopyFrom(fields)
    return answer


async def ask(run: FakeRun, question: pb.Interaction) -> Any:
    """The receipt, or the error of the call."""
    return await run.ask("request_interaction", run_pull_pb2.RequestInteractionRequest(interaction=question))


def completes(run: FakeRun) -> Any:
    return run.result(run_completed={"finish_reason": AWAITING})


async def submit(host: Hosted, answer: pb.InteractionAnswer, request_id: str = "") -> Any:
    """A call of SubmitInteraction."""
    request = run_pb2.SubmitInteractionRequest(answer=answer, request_id=request_id or new_id("req"))
    with errors_by_meaning():
        return await host.runs.SubmitInteraction(request)


async def questions(host: Hosted, **which: Any) -> list[run_pb2.InteractionRecord]:
    with errors_by_meaning():
        answer = await host.runs.ListInteractions(run_pb2.ListInteractionsRequest(**which))
    return list(answer.interactions)
