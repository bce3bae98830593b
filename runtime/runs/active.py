"""The runs under way: how many there may be, and whose they are."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from portway.rpc.errors import InvalidInput, LimitExceeded, Reason, WrongState

EPOCH_HEADER = "portway-host-epoch"


def read_epoch(header: str | None) -> int:
    """The epoch that a host calls itself by; 0 for a caller that names none."""
    if header is None:
        return 0
    if not header.isascii() or not header.isdigit() or len(header) > 18:
        raise InvalidInput.field(EPOCH_HEADER, "is not a number")
    return int(header)


class ActiveRuns:
    """Admits runs. A host that was replaced must not go on: its runs end when a newer one is first heard of."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._newer = asyncio.Event()
        self.count = 0
        self.epoch = 0

    def meet(self, epoch: int) -> None:
        """Takes note of a host. Raises `WrongState` for one that a newer one has replaced."""
        if epoch < self.epoch:
            raise self._stale(epoch)
        if epoch > self.epoch:
            self.epoch = epoch
            self._newer.set()
            self._newer = asyncio.Event()

    @contextmanager
    def admit(self, epoch: int) -> Iterator[None]:
        """Counts a run for the time of the block. Raises `LimitExceeded` where there are too many."""
        self.meet(epoch)
        if self.count >= self._limit:
            raise LimitExceeded(
                f"{self._limit} runs are under way already; retry in a moment, or raise runtime.max_runs",
                reason=Reason.OVERLOADED,
                retry_after=1.0,
            )
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    async def until_replaced(self, epoch: int) -> None:
        """Raises `WrongState` once a newer host was heard of; never returns."""
        while True:
            if epoch < self.epoch:
                raise self._stale(epoch)
            await self._newer.wait()

    def _stale(self, epoch: int) -> WrongState:
        return WrongState(
            f"a newer host (epoch {self.epoch}) has taken over from this one (epoch {epoch}); stop this one",
            reason=Reason.STALE_HOST,
        )
