"""The pull calls of a run as the bridge makes them: the handlers that its own stream and the unary methods have."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from portway.rpc.errors import NotAvailable, PayloadTooLarge
from portway.rpc.validation import check
from portway.server.runner_calls.operations import Operation
from portway.server.runner_calls.scope import RunScope
from portway.v1 import run_pull_pb2 as pb

_KNOWLEDGE = "retrieve_knowledge"

Told = Callable[[pb.RunnerServiceCallToolResponse], Awaitable[None]]


class BridgeCalls:
    """Raises what the handlers raise; NotAvailable for what this host does not serve."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._operations = operations

    async def one(self, run: RunScope, name: str, request: Message) -> Any:
        """The answer to a call of one request and one answer."""
        operation = self._checked(run, name, request)
        async with run.in_time():
            return await operation.handler(run, request)

    async def tool(self, run: RunScope, request: pb.RunnerServiceCallToolRequest, told: Told) -> pb.ToolResult:
        """The result of a tool. It bounds itself: while a person is asked, the run's clock stands still."""
        found: list[pb.ToolResult] = []

        async def emit(response: pb.RunnerServiceCallToolResponse, last: bool = False) -> None:
            if response.HasField("result"):
                found.append(response.result)
            else:
                await told(response)

        await self._checked(run, "call_tool", request).handler(run, request, emit)
        return found[0]

    async def bytes(self, run: RunScope, name: str, request: Message, most: int) -> bytes:
        """What a call that streams pieces of bytes gives. Raises PayloadTooLarge."""
        data = bytearray()

        async def emit(response: Any, last: bool = False) -> None:
            data.extend(response.data)
            if len(data) > most:
                raise PayloadTooLarge(f"it has more than {most} bytes")

        operation = self._checked(run, name, request)
        async with run.in_time():
            await operation.handler(run, request, emit)
        return bytes(data)

    def _checked(self, run: RunScope, name: str, request: Message) -> Operation:
        run.check_alive()
        operation = self._operations.get(name)
        if operation is None:
            what = "knowledge bases" if name == _KNOWLEDGE else "this"
            raise NotAvailable(f"this host does not serve {what} in this version")
        check(request)
        return operation
