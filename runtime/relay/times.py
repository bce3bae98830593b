"""How long one call of a component may take: as its manifest says, and as its caller waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from portway.rpc.errors import DeadlineExceeded


def time_of(own: float | None, of_caller: float | None) -> float | None:
    """Seconds; None where there is no end."""
    known = [one for one in (own, of_caller) if one is not None]
    return min(known) if known else None


@asynccontextmanager
async def within(seconds: float | None, component_id: str) -> AsyncIterator[None]:
    """Raises `DeadlineExceeded` once the component's own time is over."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceeded(
            f"{component_id} did not end within the {seconds:g} s that its manifest allows (limits.timeout)"
        ) from None
