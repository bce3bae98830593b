"""Marks what a plugin prints with the run that printed it, so that the runtime can tell runs apart in the log."""

import io
import sys
from contextvars import ContextVar

# A line of a run begins with RECORD, its id and UNIT: control characters that no log line holds otherwise. Programs in
# other languages may do the same.
RECORD, UNIT = "\x1e", "\x1f"

current_run: ContextVar[str] = ContextVar("portway_run", default="")


class MarkedOutput(io.TextIOBase):
    """A text stream on a file descriptor that marks each line with the current run."""

    def __init__(self, descriptor: int) -> None:
        self._out = open(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
        self._at_start = True

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._out.fileno()

    def write(self, text: str) -> int:
        run_id = current_run.get()
        for line in text.splitlines(keepends=True):
            if self._at_start and run_id:
                self._out.write(f"{RECORD}{run_id}{UNIT}")
            self._out.write(line)
            self._at_start = line.endswith("\n")
        return len(text)

    def flush(self) -> None:
        self._out.flush()


def mark_output() -> None:
    sys.stdout = MarkedOutput(1)
    sys.stderr = MarkedOutput(2)
