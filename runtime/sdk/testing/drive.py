"""Runs a runner in this process, over the same frames as in a worker."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from portway.runtime.sdk.runner import AgentRunner
from portway.runtime.sdk.session.run_session import RunSession
from portway.runtime.sdk.testing.host import FakeHost
from portway.runtime.sdk.testing.things import Things
from portway.runtime.sdk.types.content import text_part
from portway.runtime.sdk.types.context import (
    ConversationContext,
    EventContext,
    HistoryContext,
    Permissions,
    RunContext,
    RunInput,
    StateSnapshot,
    StateValue,
    Trigger,
)
from portway.runtime.sdk.types.convert import Json, write
from portway.runtime.sdk.types.resources import KnowledgeBaseResource, RunResources, ToolResource
from portway.runtime.sdk.types.results import StateScope
from portway.v1 import run_agent_pb2, run_call_pb2, run_pull_pb2, run_result_pb2

RUN_ID = "run_test"
CONVERSATION_ID = "cnv_test"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run said: its results as the host gets them."""

    results: Sequence[run_result_pb2.RunResult]

    @property
    def kinds(self) -> list[str]:
        return [result.WhichOneof("kind") or "" for result in self.results]

    @property
    def streamed(self) -> str:
        """The text of all deltas."""
        return "".join(result.message_delta.text for result in self.results if result.HasField("message_delta"))

    @property
    def messages(self) -> list[str]:
        """The texts of the completed messages."""
        completed = [result.message_completed for result in self.results if result.HasField("message_completed")]
        completed += [
            result.run_completed.message for result in self.results if result.run_completed.HasField("message")
        ]
        return ["".join(part.text.text for part in one.message.parts) for one in completed]

    @property
    def terminal(self) -> run_result_pb2.RunResult:
        return self.results[-1]

    @property
    def error_code(self) -> str:
        """The code of the failure; empty where the run ended well."""
        return self.terminal.run_failed.error.code


def context_for(text: str, things: Things, *, config: Json | None = None, attempt: int = 1) -> RunContext:
    """A context of a message from a person, with all that `things` has among its resources."""
    schemas = {tool.name: tool for tool in things.tool_schemas}
    tools = tuple(schemas.get(name, ToolResource(name, "native", name, {"type": "object"})) for name in things.tools)
    now = datetime.now(UTC)
    calls = ("page_history",) if things.history else ()
    return RunContext(
        run_id=RUN_ID,
        trigger=Trigger("message.received", time=now),
        event=EventContext("evt_test", "message.received", now),
        input=RunInput(text, (text_part(text),) if text else ()),
        conversation=ConversationContext(conversation_id=CONVERSATION_ID),
        resources=RunResources(
            models=tuple(things.models),
            tools=tools,
            knowledge_bases=tuple(KnowledgeBaseResource(base, base) for base in things.knowledge),
        ),
        context=HistoryContext(
            latest_cursor=str(len(things.history)), has_history_before=bool(things.history), available_calls=calls
        ),
        state=_snapshot(things),
        config=config or {},
        attempt=attempt,
    )


def _snapshot(things: Things) -> StateSnapshot:
    """The state as it is now, by scope and key."""
    scopes: dict[str, dict[str, StateValue]] = {}
    for (scope, key), (value, version) in things.state.items():
        scopes.setdefault(StateScope(scope).name.lower(), {})[key] = StateValue(json.loads(value), version)
    return StateSnapshot(**scopes)


async def run_runner(
    make_runner: Callable[[], AgentRunner],
    text: str = "hello",
    *,
    things: Things | None = None,
    permissions: Sequence[str] = (),
    platform_actions: Sequence[str] = (),
    config: Json | None = None,
    context: RunContext | None = None,
    steered: bool = False,
) -> Outcome:
    """Runs to the end. `permissions` are named as in a manifest: `models.stream`, `state`, …; `steered` tells the run
    at its start that something arrived, so that it asks for what is in `things.steering`."""
    things = things or Things()
    granted = frozenset(name.replace(".", "_") for name in permissions)
    allowed = Permissions(granted, platform_actions=tuple(platform_actions))
    context = replace(context or context_for(text, things, config=config), permissions=allowed)
    start = run_agent_pb2.RunStart()
    write(context, start.context)
    stream = _HostStream(FakeHost(things, allowed))
    async with asyncio.TaskGroup() as group:
        stream.answering = group
        first = [run_agent_pb2.RunInputFrame(steer=run_pull_pb2.SteeringMessage())] if steered else []
        await RunSession(stream, start, make_runner).execute(first)
        stream.end()
    return Outcome(stream.results)


class _HostStream:
    """The host's end and the worker's end of a stream at once."""

    answering: asyncio.TaskGroup

    def __init__(self, host: FakeHost) -> None:
        self.results: list[run_result_pb2.RunResult] = []
        self._host = host
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue(maxsize=64)
        self._uploads: dict[int, tuple[Any, bytearray]] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}

    def end(self) -> None:
        """The run has ended: nobody reads what its calls would still be answered."""
        for call in self._calls.values():
            call.cancel()

    async def read(self) -> bytes | None:
        return await self._incoming.get()

    async def write(self, message: bytes) -> None:
        for frame in run_agent_pb2.RunAgentResponse.FromString(message).frames:
            if frame.HasField("result"):
                self.results.append(frame.result)
            elif not frame.call.cancel:
                self._take(frame.call)
            elif frame.call.call_id in self._calls:
                self._calls[frame.call.call_id].cancel()

    def _take(self, call: run_call_pb2.RunCall) -> None:
        """A call whose request comes in pieces is answered when it is whole; its first piece says what it is."""
        request = getattr(call, call.WhichOneof("kind") or "")
        first, data = self._uploads.setdefault(call.call_id, (call, bytearray()))
        data += getattr(request, "data", b"")
        if not call.more:
            del self._uploads[call.call_id]
            answering = self.answering.create_task(self._answer(first, bytes(data)))
            self._calls[call.call_id] = answering
            answering.add_done_callback(lambda _: self._calls.pop(call.call_id))

    async def _answer(self, call: run_call_pb2.RunCall, data: bytes) -> None:
        async for answer in self._host.answer(call, data):
            message = run_agent_pb2.RunAgentRequest(frames=[run_agent_pb2.RunInputFrame(answer=answer)])
            await self._incoming.put(message.SerializeToString())
