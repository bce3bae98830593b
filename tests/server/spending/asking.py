"""What tests of budgets ask for."""

from typing import Any

from portway.v1 import content_pb2, run_call_pb2, run_model_pb2, run_pull_pb2, spending_pb2
from tests.asking import ask
from tests.fakes.runtime_server import FakeRun
from tests.server.hosting import Hosted, text_part


def a_question(text: str = "hello", model_id: str = "demo", **more: Any) -> run_model_pb2.ModelRequest:
    message = run_model_pb2.ModelMessage(role=content_pb2.MESSAGE_ROLE_USER, parts=[text_part(text)])
    return run_model_pb2.ModelRequest(model_id=model_id, messages=[message], **more)


async def ask_model(run: FakeRun, text: str = "hello", **more: Any) -> Any:
    """The model's answer, or the error of the call."""
    return await run.ask("invoke_model", run_model_pb2.InvokeModelRequest(request=a_question(text, **more)))


async def keep(run: FakeRun, size: int) -> Any:
    """Write bytes into the plugin's storage."""
    key = run_pull_pb2.StorageKey(area=run_pull_pb2.STORAGE_AREA_PLUGIN, key="k")
    return await run.ask("set_storage", run_pull_pb2.SetStorageRequest(key=key, data=b"x" * size))


def is_spent(answer: Any) -> bool:
    return isinstance(answer, run_call_pb2.RunCallError) and answer.reason == "BUDGET_EXHAUSTED"


async def spending(host: Hosted, **request: str) -> spending_pb2.GetSpendingResponse:
    found: spending_pb2.GetSpendingResponse = await ask(host.channel, spending_pb2.GetSpendingRequest(**request))
    return found
