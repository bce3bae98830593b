"""Places for calls at a time, given out in turn over those who ask, so that one busy run does not hold up the rest."""

from __future__ import annotations

import asyncio
from collections import deque


class FairPlaces:
    """`places` calls at a time; at most `waiting` more wait. Calls of one lane keep their order."""

    def __init__(self, places: int, waiting: int) -> None:
        self._free = places
        self._limit = waiting
        # The first lane is the next to be served; one that was served goes to the end.
        self._lanes: dict[str, deque[asyncio.Future[None]]] = {}
        self._waiting = 0

    @property
    def crowded(self) -> bool:
        """Whether one more call could not even wait."""
        return self._free <= 0 and self._waiting >= self._limit

    async def take(self, lane: str) -> None:
        """Waits for a place; give it back. Check `crowded` before."""
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lanes.setdefault(lane, deque()).append(turn)
        self._waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()
            else:
                self._forget(lane, turn)
            raise
        finally:
            self._waiting -= 1

    def give_back(self) -> None:
        """Passes the place on to the next lane."""
        while self._lanes:
            lane = next(iter(self._lanes))
            turns = self._lanes.pop(lane)
            turn = turns.popleft()
            if turns:
                self._lanes[lane] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _forget(self, lane: str, turn: asyncio.Future[None]) -> None:
        turns = self._lanes.get(lane)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._lanes[lane]
