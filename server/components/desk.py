"""Calls components over the runtime, and answers what they ask."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from portway.rpc.errors import InternalError, PortwayError
from portway.server.components.scope import STORAGE, Backing, ComponentScope
from portway.server.events.guards import Audit
from portway.server.runner_calls.operations import Operation, Shape
from portway.server.runner_calls.pipeline import Pipeline
from portway.server.runner_calls.storage import StorageCalls
from portway.server.runs.outgoing import Outgoing
from portway.server.runtimes.link import RuntimeLink
from portway.server.runtimes.stream import RunStream
from portway.v1 import component_pb2 as pb
from portway.v1 import run_agent_pb2, run_call_pb2, runtime_pb2

_RUN_COMPONENT = "/portway.v1.RuntimeService/RunComponent"

Take = Callable[[pb.ComponentOutputFrame], Awaitable[None]]


class ComponentDesk:
    """One for the host. A component's identity is the stream that the host opened to it, whatever it says."""

    def __init__(self, link: RuntimeLink, storage: StorageCalls, audit: Audit) -> None:
        self._link = link
        self._audit = audit
        self._operations = _operations(storage)

    async def talk(
        self, start: pb.ComponentStart, seconds: float, take: Take, backing: Backing | None = None
    ) -> pb.ComponentResult:
        """The result of a call; `take` gets everything before it. Cancelling stops the component.

        Raises what the call ended with, by meaning: Unavailable without a runtime.
        """
        scope = ComponentScope(
            workspace_id=start.caller.workspace_id,
            kind=start.kind,
            component_id=start.component_id,
            permissions=frozenset(start.permissions) & {STORAGE},
            deadline=time.monotonic() + seconds,
            audit=self._audit,
            run_id=start.caller.run_id,
            backing=backing,
        )
        stream = RunStream(
            self._link.channel.stream_stream(_RUN_COMPONENT)(timeout=seconds, metadata=self._link.metadata)
        )
        try:
            async with stream:
                await stream.write(_message(pb.ComponentInputFrame(start=start)))
                return await self._follow(stream, scope, take)
        except BaseExceptionGroup as group:
            raise _first(group) from None

    async def _follow(self, stream: RunStream, scope: ComponentScope, take: Take) -> pb.ComponentResult:
        outgoing = _Answers()
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(outgoing.write_to(stream))
            pipeline = Pipeline(scope, self._operations, outgoing, group)
            try:
                return await _read(stream, pipeline, take)
            finally:
                # What it still asks nobody waits for.
                pipeline.close()
                writing.cancel()


class _Answers(Outgoing):
    """Answers to a component: frames that runs and components have in common."""

    def answer(self, answer: run_call_pb2.RunAnswer) -> None:
        self.put(run_agent_pb2.RunInputFrame(answer=answer))


async def _read(stream: RunStream, pipeline: Pipeline, take: Take) -> pb.ComponentResult:
    while (raw := await stream.read()) is not None:
        for frame in _frames(raw):
            match frame.WhichOneof("kind"):
                case "call":
                    await pipeline.take(frame.call)
                case "result":
                    return frame.result
                case _:
                    await take(frame)
    raise InternalError("the plugin runtime ended a call without a result")


def _frames(raw: bytes) -> list[pb.ComponentOutputFrame]:
    try:
        return list(runtime_pb2.RunComponentResponse.FromString(raw).frames)
    except DecodeError:
        raise InternalError("the plugin runtime sent what is no message of the contract") from None


def _message(frame: pb.ComponentInputFrame) -> bytes:
    return runtime_pb2.RunComponentRequest(frames=[frame]).SerializeToString()


def _operations(storage: StorageCalls) -> Mapping[str, Operation]:
    """Storage is served; everything else that a run may ask is refused to a component."""
    served = {
        "get_storage": Operation(Shape.STREAM, storage.get_storage),
        "set_storage": Operation(Shape.UPLOAD, storage.set_storage),
        "delete_storage": Operation(Shape.ONE, storage.delete_storage),
        "list_storage": Operation(Shape.ONE, storage.list_storage),
    }
    names = [field.name for field in run_call_pb2.RunCall.DESCRIPTOR.oneofs_by_name["kind"].fields]
    return {name: served.get(name) or Operation(Shape.BOTH, _refuse(name)) for name in names}


def _refuse(name: str) -> Callable[..., Awaitable[Any]]:
    action = "".join(word.capitalize() for word in name.split("_"))

    async def refuse(scope: ComponentScope, *_: Any) -> None:
        raise scope.refused(action)

    return refuse


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong by meaning, else what went wrong first."""
    leaves: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        else:
            leaves.append(one)
    return next((leaf for leaf in leaves if isinstance(leaf, PortwayError)), leaves[0])
