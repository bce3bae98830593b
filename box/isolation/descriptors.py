"""Pipes and terminals on the event loop. Nothing is read ahead: who does not read holds the writer up."""

import asyncio
import contextlib
import errno
import fcntl
import os
import stat
import struct
import termios
from collections.abc import Callable

from portway.box.isolation.terminal import TerminalSize

PIPE_BYTES = 256 * 1024


def nonblocking_pipe(*, reader_is_ours: bool) -> tuple[int, int]:
    """(read end, write end); the end that stays here does not block, the other one does, as programs expect."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading if reader_is_ours else writing, False)
    return reading, writing


def widen_pipe(descriptor: int) -> None:
    """More room for bulk output, where the user's share of pipe memory is not used up."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def open_terminal(size: TerminalSize) -> tuple[int, int]:
    """(our side, the command's side)."""
    ours, theirs = os.openpty()
    os.set_inheritable(ours, False)
    os.set_inheritable(theirs, False)
    os.set_blocking(ours, False)
    resize_terminal(ours, size)
    return ours, theirs


def resize_terminal(terminal: int, size: TerminalSize) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("=HHHH", size.rows, size.columns, 0, 0))


def give_to(descriptor: int, user: int) -> None:
    """Makes a pipe or a terminal a session's user's, so that a command can open /dev/stdout and the like anew.

    Nothing else changes hands: /dev/null, where a command has no input, is the machine's.
    """
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode) or os.isatty(descriptor):
        os.fchown(descriptor, user, user)


class Descriptor:
    """One descriptor that is closed once, with waits that end when it is closed."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def closed(self) -> bool:
        return self._number < 0

    def fileno(self) -> int:
        return self._number

    async def read(self, limit: int) -> bytes:
        """The next bytes; empty at the end, for a terminal whose other side is gone, and once it is closed."""
        while self._number >= 0:
            try:
                return os.read(self._number, limit)
            except BlockingIOError:
                await self._ready(asyncio.get_running_loop().add_reader, asyncio.get_running_loop().remove_reader)
            except OSError as error:
                if error.errno == errno.EIO:
                    return b""
                raise
        return b""

    async def write(self, data: bytes) -> bool:
        """Writes all of it. False where nobody reads any more; the rest is then dropped."""
        left = memoryview(data)
        while left and self._number >= 0:
            try:
                left = left[os.write(self._number, left) :]
            except BlockingIOError:
                await self._ready(asyncio.get_running_loop().add_writer, asyncio.get_running_loop().remove_writer)
            except (BrokenPipeError, OSError) as error:
                if error.errno in (errno.EPIPE, errno.EIO):
                    return False
                raise
        return not left

    async def _ready(self, watch: Callable[..., None], unwatch: Callable[[int], object]) -> None:
        number = self._number
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        watch(number, _wake, waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)
            if self._number == number:
                unwatch(number)

    def close(self) -> None:
        number, self._number = self._number, -1
        if number < 0:
            return
        if self._waiting:
            loop = asyncio.get_running_loop()
            loop.remove_reader(number)
            loop.remove_writer(number)
        for waiter in self._waiting:
            _wake(waiter)
        os.close(number)


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
