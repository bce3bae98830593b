"""How many calls of one component go on at once; others wait for their turn, and not too many of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from portway.rpc.errors import LimitExceeded, Reason
from portway.runtime.plugins.catalog import component_key
from portway.runtime.plugins.types import ComponentDefinition

MAX_WAITING = 64


class _Turn:
    """The calls of one component. `known` counts those that go on or wait."""

    def __init__(self, concurrency: int) -> None:
        self.places = asyncio.Semaphore(concurrency)
        self.known = 0


class Turns:
    def __init__(self) -> None:
        self._turns: dict[tuple[str, int], _Turn] = {}

    @asynccontextmanager
    async def turn(self, component: ComponentDefinition) -> AsyncIterator[None]:
        """One call's turn, for the time of the block. Raises `LimitExceeded` where too many wait already."""
        # A manifest that was changed counts anew.
        key = (component_key(component), component.limits.concurrency)
        turn = self._turns.setdefault(key, _Turn(component.limits.concurrency))
        if turn.known >= component.limits.concurrency + MAX_WAITING:
            raise LimitExceeded(
                f"{component.id}: {component.limits.concurrency} calls are under way and {MAX_WAITING} wait already; "
                "retry in a moment, or raise `limits.concurrency` in its manifest",
                reason=Reason.OVERLOADED,
                retry_after=1.0,
            )
        turn.known += 1
        try:
            async with turn.places:
                yield
        finally:
            turn.known -= 1
            if turn.known == 0:
                del self._turns[key]
