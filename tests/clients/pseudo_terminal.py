"""A program on a real terminal of its own: what it shows, what is typed, and what it leaves the terminal like."""

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.waiting import PATIENCE, until

# In the new program and not between fork and exec: there, with the threads of gRPC, a process may hang for ever.
_ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


class OnTerminal:
    """A child whose controlling terminal is the other end of ours."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], rows: int, columns: int) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self._theirs)
        self.child = subprocess.Popen(
            [sys.executable, "-c", _ON_TERMINAL, *argv],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env=dict(environment),
            start_new_session=True,
        )
        os.set_blocking(self._ours, False)
        self.shown = b""

    def attributes(self) -> list[object]:
        return list(termios.tcgetattr(self._theirs))

    def resize(self, rows: int, columns: int) -> None:
        """As a window does it; whoever has the terminal is told by a signal."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            while piece := os.read(self._ours, 65536):
                self.shown += piece

    async def until_shown(self, text: str) -> None:
        """Forgets what came before it and it itself."""

        def there() -> bool:
            self._read()
            return text.encode() in self.shown

        try:
            await until(there)
        except TimeoutError:
            raise AssertionError(f"{text!r} was not shown: {self.shown.decode(errors='replace')}") from None
        self.shown = self.shown.partition(text.encode())[2]

    async def ended(self) -> int:
        def over() -> bool:
            self._read()
            return self.child.poll() is not None

        await until(over)
        return int(self.child.returncode)

    def hang_up(self) -> None:
        """The window is closed."""
        os.close(self._theirs)
        os.close(self._ours)
        self._ours = self._theirs = -1

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        for descriptor in (self._ours, self._theirs):
            if descriptor >= 0:
                os.close(descriptor)


@contextmanager
def on_terminal(
    argv: Sequence[str], environment: Mapping[str, str], *, rows: int = 24, columns: int = 80
) -> Iterator[OnTerminal]:
    running = OnTerminal(argv, environment, rows, columns)
    try:
        yield running
    finally:
        running.close()


async def output_of(
    argv: Sequence[str], environment: Mapping[str, str], stdin: bytes | None = b""
) -> tuple[int, bytes, bytes]:
    """A program without a terminal: its exit code and outputs. With None its input stays open and empty."""
    given = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=given, stdout=given, stderr=given, env=dict(environment)
    )
    async with asyncio.timeout(3 * PATIENCE):
        if stdin is None:
            assert process.stdout is not None and process.stderr is not None
            out, errors = await asyncio.gather(process.stdout.read(), process.stderr.read())
            await process.wait()
        else:
            out, errors = await process.communicate(stdin)
    return process.returncode or 0, out, errors
