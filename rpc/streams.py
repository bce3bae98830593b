"""Streams that are open: so many a principal may have; they end when their caller would not be let in any more."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from portway.rpc.call import Call
from portway.rpc.errors import LimitExceeded, PortwayError, Quota, Reason
from portway.rpc.identity import Caller

LOOK_EVERY = 0.5
Standing = Callable[[Caller], Awaitable[None]]


class OpenStreams:
    """Of one server. `watch` must be running for streams to end with the rights of their callers."""

    def __init__(self) -> None:
        self._tasks: dict[Call[Any, Any], asyncio.Task[Any]] = {}
        self._counts: Counter[str] = Counter()
        self._peers: dict[str, Counter[str]] = {}
        self._log = structlog.get_logger("portway.rpc")

    def __len__(self) -> int:
        return len(self._tasks)

    def enter(self, call: Call[Any, Any], streams: int | None, connections: int | None) -> None:
        """At most so many streams, over so many connections, of one principal (None: any number).

        Raises LimitExceeded.
        """
        principal, peer = call.caller.principal, call.peer.address
        if streams is not None and self._counts[principal] >= streams:
            raise _too_many(principal, f"{streams} open streams")
        peers = self._peers.setdefault(principal, Counter())
        if connections is not None and peer not in peers and len(peers) >= connections:
            raise _too_many(principal, f"streams over {connections} connections")
        self._counts[principal] += 1
        peers[peer] += 1
        task = asyncio.current_task()
        if task is not None:
            self._tasks[call] = task

    def leave(self, call: Call[Any, Any]) -> None:
        if self._tasks.pop(call, None) is None:
            return
        principal, peer = call.caller.principal, call.peer.address
        self._counts[principal] -= 1
        peers = self._peers[principal]
        peers[peer] -= 1
        if not peers[peer]:
            del peers[peer]
        if not self._counts[principal]:
            del self._counts[principal], self._peers[principal]

    async def watch(self, standing: Standing) -> None:
        """Ends, until it is cancelled, the streams of callers for whom `standing` raises; with what it raised."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await self.look(standing)

    async def look(self, standing: Standing) -> None:
        """Once: each caller is asked for once, however many streams it has."""
        verdicts: dict[Caller, PortwayError | None] = {}
        for call in list(self._tasks):
            caller = call.caller
            if caller not in verdicts:
                verdicts[caller] = await _verdict(standing, caller)
            verdict = verdicts[caller]
            task = self._tasks.get(call)
            if verdict is not None and task is not None and call.cut_off is None:
                call.cut_off = verdict
                self._log.info("a stream was ended", reason=str(verdict.reason), **dict(call.log_fields()))
                task.cancel()


async def _verdict(standing: Standing, caller: Caller) -> PortwayError | None:
    try:
        await standing(caller)
    except PortwayError as error:
        # A database that cannot be asked for now says nothing about the caller.
        return error if error.reason not in (Reason.UNAVAILABLE, Reason.OVERLOADED, Reason.SHUTTING_DOWN) else None
    return None


def _too_many(principal: str, limit: str) -> LimitExceeded:
    return LimitExceeded(
        f"this caller has {limit}, which is all it may have; close some and retry",
        reason=Reason.RATE_LIMITED,
        retry_after=1.0,
        quota=Quota(principal, limit),
    )
