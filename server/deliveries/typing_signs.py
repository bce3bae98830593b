"""Typing signs: chats in which a run works, shown by every adapter that serves them and can. Nothing of it is kept."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from portway.server.deliveries.types import Channel

# Platforms take a sign away by themselves after a few seconds: it is shown again while the work goes on.
REPEAT_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Place:
    """A chat: who serves it, and the serialized DeliveryTarget."""

    channel: Channel
    target: bytes


class Shower(Protocol):
    """One connection of an adapter."""

    def shows_typing(self, channel: Channel) -> bool:
        """Whether it serves the channel and its surface has such a sign."""

    def show_typing(self, target: bytes, on: bool) -> None:
        """Never blocks."""


class TypingSigns:
    """Bounded by the runs that execute: one place for each chat with at least one of them."""

    def __init__(self, repeat_seconds: float = REPEAT_SECONDS) -> None:
        self._repeat_seconds = repeat_seconds
        self._places: dict[Place, int] = {}
        self._showers: set[Shower] = set()
        self._working = asyncio.Event()

    @property
    def count(self) -> int:
        """Chats in which somebody works now."""
        return len(self._places)

    def attach(self, shower: Shower) -> None:
        """A connection has begun: it shows what goes on already."""
        self._showers.add(shower)
        for place in self._places:
            _tell(shower, place, True)

    def detach(self, shower: Shower) -> None:
        """It has ended; its adapter takes the signs away by itself."""
        self._showers.discard(shower)

    def begin(self, place: Place) -> None:
        """Work there has begun; each needs its own `end`."""
        count = self._places[place] = self._places.get(place, 0) + 1
        self._working.set()
        if count == 1:
            self._show(place, True)

    def end(self, place: Place) -> None:
        """It is over, or waits for a person."""
        self._places[place] -= 1
        if not self._places[place]:
            del self._places[place]
            self._show(place, False)

    async def run(self) -> None:
        """Show again what goes on, until cancelled."""
        while True:
            await self._working.wait()
            await asyncio.sleep(self._repeat_seconds)
            for place in self._places:
                self._show(place, True)
            if not self._places:
                self._working.clear()

    def _show(self, place: Place, on: bool) -> None:
        for shower in self._showers:
            _tell(shower, place, on)


class Sign:
    """That of one attempt: `show` and `hide` may be called in any order and as often as one likes.

    `place` is missing where nobody waits for a reply on a platform.
    """

    def __init__(self, signs: TypingSigns, place: Place | None) -> None:
        self._signs = signs
        self._place = place
        self._shown = False

    def show(self) -> None:
        """The run works."""
        if self._place is not None and not self._shown:
            self._shown = True
            self._signs.begin(self._place)

    def hide(self) -> None:
        """It does not, or no longer."""
        if self._place is not None and self._shown:
            self._shown = False
            self._signs.end(self._place)


def _tell(shower: Shower, place: Place, on: bool) -> None:
    if shower.shows_typing(place.channel):
        shower.show_typing(place.target, on)
