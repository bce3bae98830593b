"""RunnerService: the calls of runs as methods of their own, and as a session. Identity is the run token's."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

from portway.rpc.call import Call
from portway.rpc.errors import InvalidInput
from portway.rpc.validation import check, parse
from portway.server.runner_calls.operations import Operation, Shape
from portway.server.runner_calls.pipeline import Pipeline
from portway.server.runs.live import RunTokens
from portway.v1 import run_call_pb2, runner_service_pb2

MAX_ANSWERS = 64
MAX_ANSWER_BYTES = 256 * 1024
ROOM_BYTES = 1024 * 1024

_FIRST_LETTERS = re.compile(r"(?<=[a-z])([A-Z])")


class _SessionAnswers:
    """Answers of a session, packed."""

    def __init__(self) -> None:
        self._answers: deque[run_call_pb2.RunAnswer] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._empty.set()

    def answer(self, answer: run_call_pb2.RunAnswer) -> None:
        self._empty.clear()
        self._answers.append(answer)
        self._bytes += answer.ByteSize()
        if self._bytes > ROOM_BYTES:
            self._room.clear()
        self._wake.set()

    async def room(self) -> None:
        await self._room.wait()

    async def written(self) -> None:
        """Wait until every answer so far was sent."""
        await self._empty.wait()

    async def write_to(self, call: Call[Any, Any]) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._answers:
                await call.write(self._pack())
            self._empty.set()

    def _pack(self) -> run_call_pb2.OpenSessionResponse:
        response = run_call_pb2.OpenSessionResponse()
        size = 0
        while self._answers and len(response.answers) < MAX_ANSWERS:
            following = self._answers[0].ByteSize()
            if response.answers and size + following > MAX_ANSWER_BYTES:
                break
            response.answers.append(self._answers.popleft())
            size += following
        self._bytes -= size
        if self._bytes <= ROOM_BYTES:
            self._room.set()
        return response


class RunnerServicer:
    """Each unary or streaming method is the operation of the same name; what is not among them is not served."""

    def __init__(self, tokens: RunTokens, operations: Mapping[str, Operation]) -> None:
        self._tokens = tokens
        self._operations = operations
        for method in runner_service_pb2.DESCRIPTOR.services_by_name["RunnerService"].methods:
            operation = operations.get(_FIRST_LETTERS.sub(r"_\1", method.name).lower())
            if operation is not None:
                setattr(self, method.name, self._method(operation))

    async def OpenSession(self, call: Call[run_call_pb2.OpenSessionRequest, run_call_pb2.OpenSessionResponse]) -> None:
        run = self._tokens.scope(call.caller)
        answers = _SessionAnswers()
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(answers.write_to(call))
            pipeline = Pipeline(run, self._operations, answers, group)
            # Read as bytes: each call is checked by itself, so that a wrong one is an answer and not the end.
            while (raw := await call.read_bytes()) is not None:
                request = parse(run_call_pb2.OpenSessionRequest, raw)
                run.check_alive()
                if len(request.calls) > MAX_ANSWERS:
                    raise InvalidInput.field("calls", f"at most {MAX_ANSWERS} a message")
                for one in request.calls:
                    await pipeline.take(one)
            await pipeline.drained()
            await answers.written()
            writing.cancel()

    def _method(self, operation: Operation) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def one(request: Any, call: Call[Any, Any]) -> Any:
            return await operation.handler(self._tokens.scope(call.caller), request)

        async def stream(request: Any, call: Call[Any, Any]) -> None:
            async def emit(response: Any, last: bool = False) -> None:
                await call.write(response)

            await operation.handler(self._tokens.scope(call.caller), request, emit)

        async def upload(call: Call[Any, Any]) -> Any:
            return await operation.handler(self._tokens.scope(call.caller), _checked(call))

        async def both(call: Call[Any, Any]) -> None:
            async def emit(response: Any, last: bool = False) -> None:
                await call.write(response)

            await operation.handler(self._tokens.scope(call.caller), _checked(call), emit)

        methods: Mapping[Shape, Callable[..., Coroutine[Any, Any, Any]]]
        methods = {Shape.ONE: one, Shape.STREAM: stream, Shape.UPLOAD: upload, Shape.BOTH: both}
        return methods[operation.shape]


async def _checked(call: Call[Any, Any]) -> AsyncIterator[Any]:
    while (request := await call.read()) is not None:
        check(request)
        yield request
