"""How much a server takes on at once: calls in all, calls per principal, size of a message."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from portway.rpc.errors import LimitExceeded, Quota, RateLimited, Reason

MESSAGE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server accepts. None means no limit.

    Rates are per second and per principal: a person with all tokens, else a token. Calls that stream are counted apart
    from the others, so that those who only watch never take the place of those who send.
    """

    message_bytes: int = MESSAGE_BYTES
    concurrent_calls: int = 4096
    streams_per_connection: int = 1024
    rate: float | None = None
    burst: float = 100.0
    concurrent_streams: int = 4096
    streams_per_principal: int | None = None
    connections_per_principal: int | None = None


class TokenBuckets:
    """One bucket per principal. The least recently used of more than `capacity` principals start full again."""

    def __init__(
        self, rate: float, burst: float, *, capacity: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._capacity = capacity
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, principal: str) -> None:
        """Takes one token. Raises `RateLimited` with the seconds until the next one."""
        now = self._clock()
        left, then = self._buckets.pop(principal, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        self._buckets[principal] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
        if left < 1:
            raise RateLimited(
                f"more than {self._rate:g} calls per second; slow down and retry",
                retry_after=(1 - left) / self._rate,
                quota=Quota(principal, f"{self._rate:g} calls per second, bursts of {self._burst:g}"),
            )


class Slots:
    """Counts the calls under way and refuses more than there are slots at once, instead of queueing them."""

    def __init__(self, total: int, what: str = "calls") -> None:
        self._total = total
        self._what = what
        self._taken = 0
        self._emptied: asyncio.Event | None = None

    def enter(self) -> None:
        if self._taken >= self._total:
            raise LimitExceeded(
                f"the server has {self._total} {self._what} under way already; retry in a moment",
                reason=Reason.OVERLOADED,
                retry_after=1.0,
            )
        self._taken += 1

    def leave(self) -> None:
        self._taken -= 1
        if self._taken == 0 and self._emptied is not None:
            self._emptied.set()

    async def until_empty(self) -> None:
        """Returns once no call is under way; for when no new ones are let in."""
        if self._taken:
            self._emptied = asyncio.Event()
            await self._emptied.wait()
