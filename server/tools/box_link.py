"""Whether the box can be used, and why not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from portway.rpc.errors import PortwayError
from portway.server.tools.types import Availability
from portway.v1 import box_pb2

HEARTBEAT_SECONDS = 20.0
ASK_SECONDS = 5.0
_FIRST_RETRY_SECONDS = 0.25
_MAX_RETRY_SECONDS = 2.0

NOT_CONFIGURED = Availability(
    False, "this host has no box; start one with `portway up`, or name one with --box", absent=True
)
_NOT_ASKED = Availability(False, "the box was not reached yet; it is tried again all the time")


class BoxLink:
    """Asks the box how it is: every heartbeat while it answers, with growing, uneven pauses while it does not.

    Run `watch` in a task group; `availability` may be read at any time.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[box_pb2.GetBoxStatusResponse]],
        *,
        heartbeat: float = HEARTBEAT_SECONDS,
        patience: float = ASK_SECONDS,
    ) -> None:
        """`heartbeat`: seconds between two questions; `patience`: how long an answer is waited for."""
        self._ask = ask
        self._heartbeat = heartbeat
        self._patience = patience
        self._availability = _NOT_ASKED
        self._changed = asyncio.Event()
        self.answered = asyncio.Event()
        """The box has said something of itself at least once."""

    def availability(self) -> Availability:
        """As of the last answer."""
        return self._availability

    async def refresh(self) -> bool:
        """Asks now; true when the box answered, whatever it said."""
        try:
            async with asyncio.timeout(self._patience):
                found, answered = _availability(await self._ask()), True
            self.answered.set()
        except TimeoutError:
            # Frozen, or behind a network that swallows everything: its connection looks whole for a while.
            found, answered = Availability(False, f"the box does not answer within {self._patience:g} s"), False
        except PortwayError as error:
            found, answered = Availability(False, f"the box cannot be reached: {error.message}"), False
        if found != self._availability:
            self._availability = found
            self._changed.set()
            self._changed = asyncio.Event()
        return answered

    async def changed(self) -> Availability:
        """Waits for the next change."""
        await self._changed.wait()
        return self._availability

    async def watch(self) -> None:
        """Never ends by itself."""
        retry = _FIRST_RETRY_SECONDS
        while True:
            if await self.refresh():
                retry = _FIRST_RETRY_SECONDS
                await asyncio.sleep(self._heartbeat)
            else:
                await asyncio.sleep(retry * random.uniform(0.5, 1.0))
                retry = min(retry * 2, _MAX_RETRY_SECONDS)


def _availability(status: box_pb2.GetBoxStatusResponse) -> Availability:
    if not status.enabled:
        return Availability(False, status.reason or "the box is switched off; set box.enabled and restart it")
    if not status.available:
        return Availability(False, status.reason or "no backend of the box works here; `portway doctor` says why")
    if status.draining:
        return Availability(False, "the box is stopping and takes no new work")
    return Availability(True)
