"""Passes the frames of a component's call on between the host and the plugin, and keeps both to its limits."""

import asyncio
from collections.abc import Mapping
from typing import cast

import grpc
from google.protobuf.message import DecodeError

from portway.rpc.call import Call
from portway.rpc.client_stream import half_close, send
from portway.rpc.errors import InvalidInput, PayloadTooLarge, Reason
from portway.rpc.validation import check
from portway.runtime.kept.folders import PluginFolders
from portway.runtime.plugins.catalog import Catalog
from portway.runtime.plugins.types import MIB, ComponentDefinition, ComponentKind
from portway.runtime.relay.answers import Answers
from portway.runtime.relay.failures import failure_of
from portway.runtime.relay.run_agent import GENERATION_HEADER, first_failure
from portway.runtime.relay.times import time_of, within
from portway.runtime.relay.turns import Turns
from portway.runtime.runs.active import EPOCH_HEADER, ActiveRuns, read_epoch
from portway.runtime.workers.supervisor import Supervisor
from portway.runtime.workers.worker import Worker
from portway.v1 import component_pb2, runtime_pb2

ComponentCall = Call[bytes, bytes]
_Upstream = grpc.aio.StreamStreamCall[bytes, bytes]

_KINDS: Mapping[str, ComponentKind] = {
    "call_tool": ComponentKind.TOOL,
    "create_index": ComponentKind.ENGINE,
    "delete_index": ComponentKind.ENGINE,
    "describe_index": ComponentKind.ENGINE,
    "ingest_documents": ComponentKind.ENGINE,
    "remove_documents": ComponentKind.ENGINE,
    "retrieve_chunks": ComponentKind.ENGINE,
    "parse_document": ComponentKind.PARSER,
    "observe_events": ComponentKind.LISTENER,
}
# With these a plugin's folder grows.
_GROWING = ("create_index", "ingest_documents")


class ComponentRelay:
    """Brings calls to components. Who calls is what the host says; which plugin answers is what its socket says."""

    def __init__(
        self,
        catalog: Catalog,
        supervisor: Supervisor,
        runs: ActiveRuns,
        turns: Turns,
        folders: PluginFolders,
    ) -> None:
        self._catalog = catalog
        self._supervisor = supervisor
        self._runs = runs
        self._turns = turns
        self._folders = folders

    async def relay(self, call: ComponentCall) -> None:
        epoch = read_epoch(call.header(EPOCH_HEADER))
        first = await call.read_bytes()
        message = _message(first)
        start = _start(message)
        component = self._catalog.component(start.kind, start.component_id)
        plugin = self._catalog.plugin(component.id.rpartition("/")[0])
        limits = component.limits
        seconds = time_of(limits.timeout, call.time_remaining())
        if seconds is not None and not start.HasField("deadline"):
            start.deadline.GetCurrentTime()
            start.deadline.FromNanoseconds(start.deadline.ToNanoseconds() + int(seconds * 1e9))
        # What it may ask for is what its manifest says, whatever the caller grants besides.
        allowed = [one for one in start.permissions if one in component.permissions]
        del start.permissions[:]
        start.permissions.extend(allowed)
        keeper = self._supervisor.keeper(plugin.id)
        with self._runs.admit(epoch):
            async with within(limits.timeout, component.id), self._turns.turn(component):
                if start.WhichOneof("operation") in _GROWING:
                    await self._folders.check(plugin)
                async with keeper.lease() as worker:
                    await call.send_headers([(GENERATION_HEADER, str(worker.generation))])
                    answers = Answers(component)
                    try:
                        await self._pass_on(call, worker, message.SerializeToString(), answers, component, epoch)
                    finally:
                        if not answers.done:
                            keeper.look_after(worker)

    async def _pass_on(
        self,
        call: ComponentCall,
        worker: Worker,
        first: bytes,
        answers: Answers,
        component: ComponentDefinition,
        epoch: int,
    ) -> None:
        upstream = worker.open_component()
        try:
            async with asyncio.TaskGroup() as group:
                others = [
                    group.create_task(_to_worker(call, upstream, first, component)),
                    group.create_task(self._runs.until_replaced(epoch)),
                ]
                await _to_host(call, upstream, answers)
                for other in others:
                    other.cancel()
        except* grpc.aio.AioRpcError as broken:
            raise await failure_of(worker, first_failure(broken)) from None
        finally:
            upstream.cancel()


def _message(first: bytes | None) -> runtime_pb2.RunComponentRequest:
    message = runtime_pb2.RunComponentRequest()
    try:
        message.ParseFromString(first or b"")
    except DecodeError:
        raise InvalidInput("the first message is no RunComponentRequest", reason=Reason.UNPARSABLE_MESSAGE) from None
    return message


def _start(message: runtime_pb2.RunComponentRequest) -> component_pb2.ComponentStart:
    if not message.frames or not message.frames[0].HasField("start"):
        raise InvalidInput("the first frame of a call is `start`", reason=Reason.UNEXPECTED_FRAME)
    start = message.frames[0].start
    check(start)
    operation = start.WhichOneof("operation") or ""
    if _KINDS.get(operation) != start.kind:
        raise InvalidInput.field("frames[0].start", f"{operation} is no operation of a {start.kind}")
    return start


async def _to_worker(call: ComponentCall, upstream: _Upstream, first: bytes, component: ComponentDefinition) -> None:
    taken, message = 0, cast(bytes | None, first)
    while message is not None:
        taken += len(message)
        if taken > component.limits.input_bytes:
            raise PayloadTooLarge(
                f"{component.id} was given more than the {component.limits.input_bytes // MIB} MiB that its manifest "
                "allows (limits.input_mb)"
            )
        if not await send(upstream, message):
            # The call has ended: the other direction knows how.
            return
        message = await call.read_bytes()
    await half_close(upstream)


async def _to_host(call: ComponentCall, upstream: _Upstream, answers: Answers) -> None:
    """Waits for the host before it takes more from the worker: back pressure goes all the way."""
    while not answers.done and (raw := await upstream.read()) is not grpc.aio.EOF:
        message = answers.read(runtime_pb2.RunComponentResponse, cast(bytes, raw))
        for frame in message.frames:
            answers.take(frame.WhichOneof("kind"), frame.ByteSize(), last=frame.HasField("result"))
        await call.write_bytes(cast(bytes, raw))
    answers.finish()
