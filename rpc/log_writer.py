"""Turns log events into lines and writes them, in batches, on a thread of its own.

What a caller does is put an event into a queue: rendering a line there would cost as much as the rest of a call, a
system call gives the interpreter away, and a reader that does not read would hold up the whole server. Events wait at
most `DELAY`; urgent ones are written at once. When more than `MAX_EVENTS` wait, new ones are dropped and counted.
"""

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

DELAY = 0.05
MAX_EVENTS = 20_000

Render = Callable[[dict[str, Any]], str]


class LogWriter:
    def __init__(self, stream: TextIO, render: Render) -> None:
        self._stream = stream
        self._render = render
        self._events: deque[dict[str, Any] | str] = deque()
        self._dropped = 0
        self._writing = threading.Lock()
        self._waiting = threading.Event()
        threading.Thread(target=self._run, name="log-writer", daemon=True).start()
        atexit.register(self.flush)

    def put(self, event: dict[str, Any] | str) -> None:
        """Queues an event, or a line that is rendered already."""
        if len(self._events) >= MAX_EVENTS:
            self._dropped += 1
            return
        self._events.append(event)
        if not self._waiting.is_set():
            self._waiting.set()

    def flush(self) -> None:
        """Writes what waits. Where the stream is gone there is nobody left to tell."""
        with self._writing:
            lines = [self._line(self._events.popleft()) for _ in range(len(self._events))]
            if dropped := self._dropped:
                self._dropped = 0
                lines.append(self._line({"event": "log lines were dropped", "level": "warning", "count": dropped}))
            if lines:
                try:
                    self._stream.write("".join(lines))
                    self._stream.flush()
                except (OSError, ValueError):
                    self._dropped += len(lines)

    def _line(self, event: dict[str, Any] | str) -> str:
        if isinstance(event, str):
            return event
        try:
            return self._render(event)
        except Exception as error:  # noqa: BLE001 - a value whose text cannot be made must not end the log
            return self._render({"event": "a log line could not be rendered", "problem": type(error).__name__})

    def _run(self) -> None:
        while True:
            self._waiting.wait()
            time.sleep(DELAY)
            self._waiting.clear()
            self.flush()
