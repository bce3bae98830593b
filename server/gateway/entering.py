"""What every way in for the programs of runs has in common: how many are inside, and reading what they send."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

from portway.rpc.errors import LimitExceeded, Reason

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Gone(Exception):
    """The program has closed its connection."""


class TooLong(Exception):
    """A body has more bytes than are read."""


class Room:
    """Requests that are under way, of each run and in all. `name`: what they are at, for people."""

    def __init__(self, name: str, of_a_run: int, in_all: int) -> None:
        self._name = name
        self._of_a_run = of_a_run
        self._in_all = in_all
        self._inside: Counter[str] = Counter()

    @contextmanager
    def place(self, run_id: str) -> Iterator[None]:
        """A place in it, for the time of the block. Raises LimitExceeded where too many are inside."""
        if self._inside[run_id] >= self._of_a_run or self._inside.total() >= self._in_all:
            raise LimitExceeded(
                f"{self._inside[run_id]} requests of this run are under way at the {self._name}, "
                f"{self._inside.total()} in all; wait for one to end",
                reason=Reason.OVERLOADED,
                retry_after=1.0,
            )
        self._inside[run_id] += 1
        try:
            yield
        finally:
            self._inside[run_id] -= 1
            if not self._inside[run_id]:
                del self._inside[run_id]


async def read_body(receive: Receive, headers: Mapping[str, str], most: int, seconds: float) -> bytes:
    """A request's body. Raises TooLong (before it is read, where its length is told), TimeoutError, Gone."""
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise TooLong
    raw, more = bytearray(), True
    async with asyncio.timeout(seconds):
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            raw += message.get("body", b"")
            if len(raw) > most:
                raise TooLong
            more = message.get("more_body", False)
    return bytes(raw)
