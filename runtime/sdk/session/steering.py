"""Messages that reach a run while it is under way."""

import asyncio
from collections.abc import AsyncIterator

from portway.runtime.sdk.session.calls import Calls
from portway.runtime.sdk.types.convert import read
from portway.runtime.sdk.types.pulled import SteeringMessage
from portway.v1 import run_pull_pb2


class Steering:
    """The run's stream only tells that a message arrived; it counts as handed over when it was pulled. What is never
    pulled becomes a run of its own after this one, so nothing is lost with a run that ends."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._arrived = asyncio.Event()
        self._closed = False

    def arrive(self) -> None:
        self._arrived.set()

    def close(self) -> None:
        self._closed = True
        self._arrived.set()

    async def take(self) -> tuple[SteeringMessage, ...]:
        """Everything that has arrived, for a turn boundary; asks the host only if something has."""
        if self._closed or not self._arrived.is_set():
            return ()
        self._arrived.clear()
        return await self.pull()

    async def pull(self, limit: int = 0) -> tuple[SteeringMessage, ...]:
        """Asks the host, whether or not something arrived; for all that waits there if `limit` is 0."""
        answer = await self._calls.ask("pull_steering", run_pull_pb2.PullSteeringRequest(limit=limit))
        return tuple(read(SteeringMessage, one) for one in answer.messages)

    async def __aiter__(self) -> AsyncIterator[SteeringMessage]:
        """Waits for messages until the host says no more; a runner leaves the loop when it has enough."""
        while not self._closed:
            await self._arrived.wait()
            for message in await self.take():
                yield message
