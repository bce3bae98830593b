"""Stored things kept in memory while nobody changes them. One host owns the data, so it hears of every change."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """At most `limit` values, the least recently used are forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[K, V] = OrderedDict()
        self._changes = 0

    async def get(self, key: K, read: Callable[[], Awaitable[V]]) -> V:
        """The value, read where it is not in memory. What `read` raises is not remembered."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        changes = self._changes
        value = await read()
        # What was read while something changed may be what it was before.
        if changes == self._changes:
            self._values[key] = value
            if len(self._values) > self._limit:
                self._values.popitem(last=False)
        return value

    def peek(self, key: K) -> V | None:
        """The value, if it is in memory."""
        return self._values.get(key)

    def forget(self, key: K) -> None:
        """It has changed."""
        self._changes += 1
        self._values.pop(key, None)

    def forget_all(self) -> None:
        """Anything may have changed."""
        self._changes += 1
        self._values.clear()
