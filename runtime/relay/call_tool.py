"""Calls a plugin's tool for the host."""

import grpc

from portway.rpc.call import Call
from portway.rpc.errors import InternalError
from portway.runtime.plugins.catalog import Catalog
from portway.runtime.relay.failures import failure_of
from portway.runtime.runs.active import EPOCH_HEADER, ActiveRuns, read_epoch
from portway.runtime.workers.supervisor import Supervisor
from portway.runtime.workers.worker import Worker
from portway.v1 import runtime_pb2, worker_pb2

ToolCall = Call[None, runtime_pb2.RuntimeServiceCallToolResponse]


class ToolRelay:
    def __init__(self, catalog: Catalog, supervisor: Supervisor, runs: ActiveRuns) -> None:
        self._catalog = catalog
        self._supervisor = supervisor
        self._runs = runs

    async def relay(self, request: runtime_pb2.RuntimeServiceCallToolRequest, call: ToolCall) -> None:
        plugin = self._catalog.plugin_of_tool(request.name)
        with self._runs.admit(read_epoch(call.header(EPOCH_HEADER))):
            async with self._supervisor.keeper(plugin.id).lease() as worker:
                await _pass_on(request, call, worker)


async def _pass_on(request: runtime_pb2.RuntimeServiceCallToolRequest, call: ToolCall, worker: Worker) -> None:
    upstream = worker.call_tool(
        worker_pb2.WorkerServiceCallToolRequest(
            name=request.name.rpartition("/")[2],
            arguments=request.arguments,
            effect_id=request.effect_id,
            run_id=request.run_id,
            reconcile=request.reconcile,
        )
    )
    done = False
    try:
        async for raw in upstream:
            # The two messages have the same shape, so that nothing has to be copied.
            response = runtime_pb2.RuntimeServiceCallToolResponse.FromString(raw)
            done = response.HasField("result")
            await call.write(response)
    except grpc.aio.AioRpcError as error:
        raise await failure_of(worker, error) from None
    finally:
        upstream.cancel()
    if not done:
        raise InternalError(f"the tool {request.name} ended without a result")
