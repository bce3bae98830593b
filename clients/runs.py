"""Runs as a client sees them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

from portway.rpc.errors import Unavailable
from portway.rpc.status import errors_by_meaning
from portway.v1 import run_pb2, run_pb2_grpc

CALL_SECONDS = 30.0
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0


class Runs:
    """Reads, watches and cancels runs."""

    def __init__(self, stub: run_pb2_grpc.RunServiceAsyncStub) -> None:
        self.stub = stub

    async def get(self, run_id: str) -> run_pb2.Run:
        with errors_by_meaning():
            answer = await self.stub.GetRun(run_pb2.GetRunRequest(run_id=run_id), timeout=CALL_SECONDS)
        return answer.run

    async def list(self, *, conversation_id: str = "", limit: int = 50) -> list[run_pb2.Run]:
        """The newest runs, at most 200."""
        request = run_pb2.ListRunsRequest(conversation_id=conversation_id, page_size=limit)
        with errors_by_meaning():
            answer = await self.stub.ListRuns(request, timeout=CALL_SECONDS)
        return list(answer.runs)

    async def cancel(self, run_id: str, reason: str = "") -> run_pb2.CancelRunResponse:
        """Stop a run; returns when it is settled, with the receipt of what stopped."""
        with errors_by_meaning():
            return await self.stub.CancelRun(
                run_pb2.CancelRunRequest(run_id=run_id, reason=reason), timeout=CALL_SECONDS
            )

    async def explain(self, run_id: str) -> run_pb2.ExplainRunResponse:
        with errors_by_meaning():
            return await self.stub.ExplainRun(run_pb2.ExplainRunRequest(run_id=run_id), timeout=CALL_SECONDS)

    async def watch(
        self, run_id: str, *, after_sequence: int = 0, committed_only: bool = False, patience: float = 60.0
    ) -> AsyncIterator[run_pb2.RunEvent]:
        """Events of a run to its end. A connection that breaks is made again for up to `patience` seconds, from the
        last committed sequence: apply the events to a `RunView` to see each text once.
        """
        pause, waited = _FIRST_PAUSE, 0.0
        while True:
            request = run_pb2.WatchRunRequest(
                run_id=run_id, after_sequence=after_sequence, committed_only=committed_only
            )
            try:
                with errors_by_meaning():
                    async for answer in self.stub.WatchRun(request):
                        pause, waited = _FIRST_PAUSE, 0.0
                        for event in answer.events:
                            after_sequence = max(after_sequence, event.sequence)
                            yield event
                return
            except Unavailable:
                if waited >= patience:
                    raise
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                waited += pause
                pause = min(pause * 2, _LONGEST_PAUSE)
