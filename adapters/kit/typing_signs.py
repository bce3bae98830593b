"""Typing signs that the host asked for: each runs out by itself, and with the connection."""

import asyncio
from collections.abc import Callable

from portway.adapters.kit.types import Target

LONGEST_SECONDS = 10.0
MAX_SIGNS = 1_000


class TypingSigns:
    """`show` is told of every change that people are to see."""

    def __init__(self, show: Callable[[Target, bool], None], longest: float = LONGEST_SECONDS) -> None:
        self._show = show
        self._longest = longest
        self._timers: dict[Target, asyncio.TimerHandle] = {}

    def heard(self, target: Target, on: bool) -> None:
        """The host says so; also again what it said before, because platforms take a sign away by themselves."""
        timer = self._timers.pop(target, None)
        if timer is not None:
            timer.cancel()
        if on:
            if len(self._timers) >= MAX_SIGNS:
                return
            self._timers[target] = asyncio.get_running_loop().call_later(self._longest, self._ran_out, target)
            self._show(target, True)
        elif timer is not None:
            self._show(target, False)

    def clear(self) -> None:
        """There is no connection any more."""
        for target in list(self._timers):
            self.heard(target, False)

    def _ran_out(self, target: Target) -> None:
        self.heard(target, False)
