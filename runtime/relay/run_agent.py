"""Passes a run's frames on between the host and the plugin. Only the first one is looked into."""

import asyncio
from typing import cast

import grpc
from google.protobuf.message import DecodeError

from portway.rpc.call import Call
from portway.rpc.client_stream import half_close, send
from portway.rpc.errors import InvalidInput, Reason
from portway.runtime.plugins.catalog import Catalog
from portway.runtime.relay.failures import failure_of
from portway.runtime.runs.active import EPOCH_HEADER, ActiveRuns, read_epoch
from portway.runtime.workers.supervisor import Supervisor
from portway.runtime.workers.worker import Worker
from portway.v1 import run_agent_pb2

GENERATION_HEADER = "portway-plugin-generation"

RunCall = Call[bytes, bytes]
_Upstream = grpc.aio.StreamStreamCall[bytes, bytes]


def runner_of(first: bytes | None) -> str:
    """The runner that the first message of a run names. Raises `InvalidInput` where it is no start of a run."""
    message = run_agent_pb2.RunAgentRequest()
    try:
        message.ParseFromString(first or b"")
    except DecodeError:
        raise InvalidInput("the first message is no RunAgentRequest", reason=Reason.UNPARSABLE_MESSAGE) from None
    if not message.frames or not message.frames[0].HasField("start"):
        raise InvalidInput("the first frame of a run is `start`", reason=Reason.UNEXPECTED_FRAME)
    return message.frames[0].start.runner_id


class RunRelay:
    """Brings runs to plugins. The plugin is the one behind the socket; what it says of itself is not asked."""

    def __init__(self, catalog: Catalog, supervisor: Supervisor, runs: ActiveRuns) -> None:
        self._catalog = catalog
        self._supervisor = supervisor
        self._runs = runs

    async def relay(self, call: RunCall) -> None:
        epoch = read_epoch(call.header(EPOCH_HEADER))
        first = await call.read_bytes()
        plugin = self._catalog.plugin_of_runner(runner_of(first))
        with self._runs.admit(epoch):
            async with self._supervisor.keeper(plugin.id).lease() as worker:
                await call.send_headers([(GENERATION_HEADER, str(worker.generation))])
                await self._pass_on(call, worker, first or b"", epoch)

    async def _pass_on(self, call: RunCall, worker: Worker, first: bytes, epoch: int) -> None:
        upstream = worker.open_run()
        try:
            async with asyncio.TaskGroup() as group:
                others = [
                    group.create_task(_to_worker(call, upstream, first)),
                    group.create_task(self._runs.until_replaced(epoch)),
                ]
                await _to_host(call, upstream)
                for other in others:
                    other.cancel()
        except* grpc.aio.AioRpcError as broken:
            raise await failure_of(worker, first_failure(broken)) from None
        finally:
            upstream.cancel()


async def _to_worker(call: RunCall, upstream: _Upstream, first: bytes) -> None:
    message: bytes | None = first
    while message is not None:
        if not await send(upstream, message):
            # The run has ended: the other direction knows how.
            return
        message = await call.read_bytes()
    await half_close(upstream)


async def _to_host(call: RunCall, upstream: _Upstream) -> None:
    """Waits for the host before it takes more from the worker: back pressure goes all the way."""
    while (message := await upstream.read()) is not grpc.aio.EOF:
        await call.write_bytes(cast(bytes, message))


def first_failure(group: BaseExceptionGroup[grpc.aio.AioRpcError]) -> grpc.aio.AioRpcError:
    """What broke first; the rest was cancelled by it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return cast(grpc.aio.AioRpcError, error)
