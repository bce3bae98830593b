"""Calls a plugin's tool for the host."""

from datetime import UTC, datetime, timedelta

import grpc

from portway.rpc.call import Call
from portway.runtime.plugins.catalog import Catalog
from portway.runtime.relay.answers import Answers
from portway.runtime.relay.failures import failure_of
from portway.runtime.relay.run_agent import GENERATION_HEADER
from portway.runtime.relay.times import time_of, within
from portway.runtime.relay.turns import Turns
from portway.runtime.runs.active import EPOCH_HEADER, ActiveRuns, read_epoch
from portway.runtime.workers.supervisor import Supervisor
from portway.runtime.workers.worker import Worker
from portway.v1 import runtime_pb2, worker_pb2

ToolCall = Call[None, runtime_pb2.RuntimeServiceCallToolResponse]


class ToolRelay:
    def __init__(self, catalog: Catalog, supervisor: Supervisor, runs: ActiveRuns, turns: Turns) -> None:
        self._catalog = catalog
        self._supervisor = supervisor
        self._runs = runs
        self._turns = turns

    async def relay(self, request: runtime_pb2.RuntimeServiceCallToolRequest, call: ToolCall) -> None:
        plugin = self._catalog.plugin_of_tool(request.name)
        tool = self._catalog.contents.tools[request.name]
        keeper = self._supervisor.keeper(plugin.id)
        seconds = time_of(tool.limits.timeout, call.time_remaining())
        with self._runs.admit(read_epoch(call.header(EPOCH_HEADER))):
            async with within(tool.limits.timeout, tool.id), self._turns.turn(tool), keeper.lease() as worker:
                await call.send_headers([(GENERATION_HEADER, str(worker.generation))])
                answers = Answers(tool)
                try:
                    await _pass_on(_for_worker(request, seconds), call, worker, answers)
                finally:
                    if not answers.done:
                        keeper.look_after(worker)


def _for_worker(
    request: runtime_pb2.RuntimeServiceCallToolRequest, seconds: float | None
) -> worker_pb2.WorkerServiceCallToolRequest:
    message = worker_pb2.WorkerServiceCallToolRequest(
        name=request.name.rpartition("/")[2],
        arguments=request.arguments,
        effect_id=request.effect_id,
        run_id=request.run_id,
        reconcile=request.reconcile,
    )
    if request.HasField("caller"):
        message.caller.CopyFrom(request.caller)
    if seconds is not None:
        message.deadline.FromDatetime(datetime.now(UTC) + timedelta(seconds=seconds))
    return message


async def _pass_on(
    request: worker_pb2.WorkerServiceCallToolRequest, call: ToolCall, worker: Worker, answers: Answers
) -> None:
    upstream = worker.call_tool(request)
    try:
        async for raw in upstream:
            # The two messages have the same shape, so that nothing has to be copied.
            response = answers.read(runtime_pb2.RuntimeServiceCallToolResponse, raw)
            answers.take(response.WhichOneof("kind"), len(raw), last=response.HasField("result"))
            await call.write(response)
    except grpc.aio.AioRpcError as error:
        raise await failure_of(worker, error) from None
    finally:
        upstream.cancel()
    answers.finish()
