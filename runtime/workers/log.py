"""What plugins print: the last lines of each, bounded in number, length, size in all, and rate."""

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from portway.rpc.redaction import redact_text
from portway.runtime.sdk.worker.output import RECORD, UNIT
from portway.runtime.waiting import either

MAX_LINES = 2000
MAX_LINE_CHARS = 8000
MAX_KEPT_CHARS = 1024 * 1024
READ_BYTES = 64 * 1024
# More is not read for the rest of a tenth of a second: whoever prints faster waits, and the runtime does other things.
BYTES_PER_TURN, TURN_SECONDS = 1024 * 1024, 0.1
# Lines a second that are kept; a plugin that prints more loses lines, and nobody else notices.
LINES_PER_SECOND = 2000
BURST = 4000


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. `number` counts the plugin's lines from 1; `dropped` lines before it were not kept."""

    number: int
    time: datetime
    stream: str
    text: str
    run_id: str
    dropped: int


class PluginLog:
    """The lines of one plugin, over all of its processes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines: deque[LogLine] = deque(maxlen=MAX_LINES)
        self._clock = clock
        self._number = 0
        self._kept_chars = 0
        self._dropped = 0
        self._allowance, self._then = float(BURST), clock()
        self._changed = asyncio.Event()

    def add(self, stream: str, text: str) -> None:
        if not self._take():
            self._dropped += 1
            return
        run_id = ""
        if text.startswith(RECORD):
            run_id, _, text = text[1:].partition(UNIT)
        if len(text) > MAX_LINE_CHARS:
            text = text[: MAX_LINE_CHARS - 1] + "…"
        self._number += 1
        line = LogLine(self._number, datetime.now(UTC), stream, redact_text(text), run_id[:128], self._dropped)
        self._dropped = 0
        self._keep(line)
        self._changed.set()
        self._changed = asyncio.Event()

    def add_many(self, stream: str, lines: Sequence[bytes]) -> None:
        """Lines that arrived together; those over the rate are counted without being looked at."""
        for index, line in enumerate(lines):
            if self._allowance < 1 and not self._refilled():
                self._dropped += len(lines) - index
                return
            self.add(stream, line.decode(errors="replace").rstrip("\r"))

    def _keep(self, line: LogLine) -> None:
        if len(self._lines) == MAX_LINES:
            self._kept_chars -= len(self._lines.popleft().text)
        self._lines.append(line)
        self._kept_chars += len(line.text)
        while self._kept_chars > MAX_KEPT_CHARS:
            self._kept_chars -= len(self._lines.popleft().text)

    def _take(self) -> bool:
        if not self._refilled():
            return False
        self._allowance -= 1
        return True

    def _refilled(self) -> bool:
        """Whether another line may be kept by now."""
        now = self._clock()
        self._allowance = min(BURST, self._allowance + (now - self._then) * LINES_PER_SECOND)
        self._then = now
        return self._allowance >= 1

    def last(self, count: int) -> list[LogLine]:
        return list(self._lines)[-count:] if count else []

    @property
    def number(self) -> int:
        """Of the last line."""
        return self._number

    def last_error(self, after: int = 0) -> str:
        """The last line on the error stream that says something, for the reason of a failed start. `after` is the
        number of a line that was there before."""
        lines = (one for one in reversed(self._lines) if one.number > after)
        return next((one.text for one in lines if one.stream == "stderr" and one.text.strip()), "")

    async def follow(self, count: int, stop: asyncio.Event) -> AsyncIterator[LogLine]:
        """The last `count` lines, then new ones until `stop`. What went by too fast counts as dropped in the next."""
        number = self._number - len(self.last(count))
        while not stop.is_set():
            changed = self._changed
            for line in [line for line in self._lines if line.number > number]:
                missed = line.number - number - 1
                number = line.number
                yield line if not missed else _with_missed(line, missed)
            await either(changed, stop)


def _with_missed(line: LogLine, missed: int) -> LogLine:
    return LogLine(line.number, line.time, line.stream, line.text, line.run_id, line.dropped + missed)


class PipeReader:
    """Cuts what arrives on a pipe into lines. Closes the pipe at its end."""

    def __init__(self, descriptor: int, stream: str, log: PluginLog) -> None:
        self._descriptor = descriptor
        self._stream = stream
        self._log = log
        self._rest = b""
        self._turn_ends, self._turn_bytes = 0.0, 0
        self._resting: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._log.add_many(self._stream, lines)
        if len(self._rest) > 4 * MAX_LINE_CHARS:
            self._log.add_many(self._stream, [self._rest])
            self._rest = b""
        self._rest_if_much(len(data))

    def _rest_if_much(self, count: int) -> None:
        now = self._loop.time()
        if now >= self._turn_ends:
            self._turn_ends, self._turn_bytes = now + TURN_SECONDS, 0
        self._turn_bytes += count
        if self._turn_bytes >= BYTES_PER_TURN:
            self._loop.remove_reader(self._descriptor)
            self._resting = self._loop.call_at(self._turn_ends, self._go_on)

    def _go_on(self) -> None:
        self._resting = None
        self._loop.add_reader(self._descriptor, self._read)

    def close(self) -> None:
        if self._descriptor < 0:
            return
        if self._resting is not None:
            self._resting.cancel()
        if self._rest:
            self._log.add_many(self._stream, [self._rest])
            self._rest = b""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        self.ended.set()


class Output:
    """Both streams of a process."""

    def __init__(self, stdout: int, stderr: int, log: PluginLog) -> None:
        self._readers = (PipeReader(stdout, "stdout", log), PipeReader(stderr, "stderr", log))

    async def finish(self, seconds: float) -> None:
        """After the end of the process: takes what is still in the pipes. A process that was left behind may hold them
        open, so it is not waited for longer than this."""
        try:
            async with asyncio.timeout(seconds):
                for reader in self._readers:
                    await reader.ended.wait()
        except TimeoutError:
            for reader in self._readers:
                reader.close()
