"""The terminal of the person: raw while a shell has it, and as it was before whatever happens."""

import asyncio
import fcntl
import os
import signal
import struct
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from portway.rpc.errors import WrongState
from portway.v1 import process_pb2

_SIZE = struct.Struct("HHHH")
_DEFAULT = (24, 80)


class Terminal:
    """Standard input and output of this program, where both are a terminal."""

    def __init__(self) -> None:
        """Raises `WrongState` where they are not."""
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise WrongState(
                "a shell needs a terminal, and standard input or output is none; `portway box exec` needs none"
            )
        self._input, self._output = sys.stdin.fileno(), sys.stdout.fileno()
        self._before = termios.tcgetattr(self._input)

    @property
    def input(self) -> int:
        return self._input

    def size(self) -> process_pb2.TerminalSize:
        try:
            rows, columns, _width, _height = _SIZE.unpack(
                fcntl.ioctl(self._output, termios.TIOCGWINSZ, bytes(_SIZE.size))
            )
        except OSError:
            rows = columns = 0
        return process_pb2.TerminalSize(rows=rows or _DEFAULT[0], columns=columns or _DEFAULT[1])

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._output, view) :]
            except BlockingIOError:
                # Somebody else made it non-blocking; it takes more in a moment.
                os.set_blocking(self._output, True)

    def say(self, text: str) -> None:
        """A line of our own between those of the shell."""
        self.write(f"\r\nportway: {text}\r\n".encode())

    def go_raw(self) -> None:
        """Every key goes inside, also Ctrl-C, Ctrl-Z and Ctrl-D."""
        tty.setraw(self._input, termios.TCSADRAIN)

    def restore(self) -> None:
        # Never waits for output that nobody may read any more.
        termios.tcsetattr(self._input, termios.TCSANOW, self._before)


@contextmanager
def raw_terminal() -> Iterator[Terminal]:
    """The terminal, raw for the block."""
    terminal = Terminal()
    terminal.go_raw()
    try:
        yield terminal
    finally:
        terminal.restore()


@contextmanager
def handling_signals(handlers: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Calls these for the block, from the running loop."""
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
