"""A program under way, wherever it runs, and what is read of it: bounded lines, and the end of its errors."""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from portway.rpc.redaction import redact_text
from portway.runtime.harness.failures import BAD_OUTPUT, EMPTY_OUTPUT, TIMEOUT, excerpt
from portway.runtime.sdk import BoxExit, BoxOutput, RunFailure

MAX_LINE = 4 * 1024 * 1024
MAX_OUTPUT = 64 * 1024 * 1024
# Of the errors: what an error message may show the end of, and what goes to the plugin's log.
_KEPT_ERRORS = 16 * 1024
_LOGGED_ERRORS = 64 * 1024


@dataclass(frozen=True, slots=True)
class Launch:
    """A program to start: `working_directory` is one that its place has resolved. `may_wait`: people may be asked
    amid it, and their time does not count."""

    argv: Sequence[str]
    working_directory: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 600.0
    may_wait: bool = False


class Program(Protocol):
    """Leaving the block that it was started in ends it, with everything that it started."""

    def output(self) -> AsyncIterator[BoxOutput | BoxExit]:
        """Its output and errors as they come, then its exit, once and last."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def close_input(self) -> None: ...


class Errors:
    """The last of what a program wrote to its errors. The first of it also goes to the plugin's log."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._logged = 0

    def take(self, data: bytes) -> None:
        self._kept += data
        del self._kept[:-_KEPT_ERRORS]
        piece = data[: _LOGGED_ERRORS - self._logged]
        if piece:
            self._logged += len(piece)
            print(redact_text(piece.decode(errors="replace")).rstrip("\n"), file=sys.stderr, flush=True)

    def text(self) -> str:
        return self._kept.decode(errors="replace")


class Listener:
    """Reads a program to its end, within its time. Raises `RunFailure` where it takes too long or says too much."""

    def __init__(self, name: str, program: Program, seconds: float) -> None:
        self.errors = Errors()
        self.exit: BoxExit | None = None
        self._name = name
        self._events = aiter(program.output())
        self._clock = asyncio.get_running_loop().time
        self._end = self._clock() + seconds
        self._seconds = seconds
        self._size = 0
        self._waiting = 0
        self._stopped = 0.0
        self._limit: asyncio.Timeout | None = None

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Its time does not pass while the block runs, such as while a person decides."""
        self._waiting += 1
        if self._waiting == 1:
            self._stopped = self._clock()
            self._move(None)
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._end += self._clock() - self._stopped
                self._move(self._end)

    def _move(self, end: float | None) -> None:
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(end)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Its output, as it comes."""
        while (event := await self._next()) is not None:
            match event:
                case BoxExit():
                    self.exit = event
                case BoxOutput(data, of_errors=True):
                    self.errors.take(data)
                case BoxOutput(data):
                    self._size += len(data)
                    if self._size > MAX_OUTPUT:
                        raise RunFailure(BAD_OUTPUT, f"{self._name} wrote more than {MAX_OUTPUT >> 20} MiB")
                    yield data

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Its output by lines, without their ends; empty ones are left out."""
        begun = bytearray()
        async for data in self.pieces():
            # Only where a line ends is what came before it looked at again.
            head, end, tail = data.partition(b"\n")
            begun += head
            whole: list[bytes] = []
            if end:
                *whole, rest = [bytes(begun), *tail.split(b"\n")]
                begun = bytearray(rest)
            if len(begun) > MAX_LINE or any(len(line) > MAX_LINE for line in whole):
                raise RunFailure(BAD_OUTPUT, f"{self._name} wrote a line of more than {MAX_LINE >> 20} MiB")
            for line in whole:
                if line.strip():
                    yield bytes(line)
        if begun.strip():
            yield bytes(begun)

    async def _next(self) -> BoxOutput | BoxExit | None:
        try:
            async with asyncio.timeout_at(None if self._waiting else self._end) as self._limit:
                return await anext(self._events, None)
        except TimeoutError:
            raise RunFailure(
                TIMEOUT,
                f"{self._name} did not end within {self._seconds:g} s (timeout_seconds of the agent's configuration) "
                "and was ended with everything that it started",
                retryable=True,
            ) from None
        finally:
            self._limit = None


def unfinished(name: str, errors: str) -> RunFailure:
    said = f"; its errors end with: {excerpt(errors)}" if errors.strip() else ""
    return RunFailure(BAD_OUTPUT, f"{name} ended well amid its answer: it never said that this was all{said}")


def empty(name: str, errors: str) -> RunFailure:
    said = f"; its errors end with: {excerpt(errors)}" if errors.strip() else ""
    return RunFailure(EMPTY_OUTPUT, f"{name} ended well and said nothing{said}", retryable=True)
