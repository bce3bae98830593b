"""Messages that reach a run while it is under way."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from portway.runtime.sdk.session.calls import Calls
from portway.runtime.sdk.types.convert import read
from portway.runtime.sdk.types.pulled import SteeringMessage
from portway.v1 import run_pull_pb2

MAX_WAITING = 256


class Steering:
    """What arrived on the run's stream, each handed out once; `async for` waits for the next until the run ends."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._waiting: deque[SteeringMessage] = deque(maxlen=MAX_WAITING)
        self._arrived = asyncio.Event()
        self._closed = False

    def add(self, message: run_pull_pb2.SteeringMessage) -> None:
        self._waiting.append(read(SteeringMessage, message))
        self._arrived.set()

    def close(self) -> None:
        self._closed = True
        self._arrived.set()

    def take(self) -> tuple[SteeringMessage, ...]:
        """Everything that has arrived, without waiting."""
        taken = tuple(self._waiting)
        self._waiting.clear()
        return taken

    async def pull(self, limit: int = 0) -> tuple[SteeringMessage, ...]:
        """Asks the host instead of reading the stream; all that wait there if `limit` is 0."""
        answer = await self._calls.ask("pull_steering", run_pull_pb2.PullSteeringRequest(limit=limit))
        return tuple(read(SteeringMessage, one) for one in answer.messages)

    async def __aiter__(self) -> AsyncIterator[SteeringMessage]:
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._closed:
                return
            self._arrived.clear()
            await self._arrived.wait()
