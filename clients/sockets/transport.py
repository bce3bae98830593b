"""One connection from inside a session, as a transport of asyncio: whatever serves a socket can serve it."""

import asyncio
from collections.abc import Callable
from typing import Any

from portway.v1 import socket_pb2 as pb

CREDIT_BYTES = 64 * 1024
PIECE_BYTES = 64 * 1024
_HIGH_WATER, _LOW_WATER = 64 * 1024, 16 * 1024


class RelayTransport(asyncio.Transport):
    """Flow control works as with a socket: `pause_reading` holds the program inside up, a program that reads nothing
    pauses the protocol's writing. `next_frame` is asked by the task that writes the stream."""

    def __init__(self, number: int, protocol: asyncio.Protocol, credit: int, ready: Callable[[], None]) -> None:
        super().__init__({"peername": None, "sockname": None, "connection_id": number})
        self._number = number
        self._protocol: asyncio.BaseProtocol = protocol
        self._ready = ready
        self._loop = asyncio.get_running_loop()
        self._may_send = credit
        self._out = bytearray()
        self._in = bytearray()
        self._to_credit = 0
        self._paused = False
        self._peer_said_all = False
        self._eof = False
        self._eof_sent = False
        self._closing = False
        self._aborted = False
        self._closed_sent = False
        self._lost = False
        self._writing_paused = False
        self._high, self._low = _HIGH_WATER, _LOW_WATER

    # What the stream brings.

    def begin(self) -> None:
        self._protocol.connection_made(self)

    def received(self, data: bytes) -> None:
        if self._closing:
            # Nobody reads it, and the program must not wait for that.
            self._to_credit += len(data)
            return self._ready()
        if len(self._in) + len(data) + self._to_credit > CREDIT_BYTES:
            # More than it was given credit for: what it says next could be anything.
            return self.abort()
        self._in += data
        self._deliver()

    def ended(self) -> None:
        """The program says no more."""
        self._peer_said_all = True
        self._deliver()

    def credited(self, size: int) -> None:
        self._may_send += size
        self._ready()

    def lost(self, error: Exception | None) -> None:
        """Nothing goes either way any more."""
        if self._lost:
            return
        self._lost = self._closing = True
        self._out.clear()
        self._in.clear()
        self._protocol.connection_lost(error)

    def _deliver(self) -> None:
        protocol = self._protocol
        assert isinstance(protocol, asyncio.Protocol)
        if self._in and not self._paused and not self._closing:
            data, self._in = bytes(self._in), bytearray()
            self._to_credit += len(data)
            protocol.data_received(data)
            self._ready()
        if self._peer_said_all and not self._in and not self._paused and not self._closing:
            self._peer_said_all = False
            if not protocol.eof_received():
                self.close()

    # What the stream takes.

    def next_frame(self) -> pb.ServeSocketRequest | None:
        """What is to be sent next; `None` when there is nothing now."""
        number = self._number
        if self._closed_sent:
            return None
        if self._aborted:
            self._closed_sent = True
            return pb.ServeSocketRequest(connection_id=number, closed=pb.SocketClosed(reset=True))
        # Small change is kept until it is worth a frame.
        if self._to_credit >= CREDIT_BYTES // 2:
            given, self._to_credit = self._to_credit, 0
            return pb.ServeSocketRequest(connection_id=number, credit=given)
        if self._out:
            return self._data_frame()
        if self._closing:
            self._closed_sent = True
            self._loop.call_soon(self.lost, None)
            return pb.ServeSocketRequest(connection_id=number, closed=pb.SocketClosed())
        if self._eof and not self._eof_sent:
            self._eof_sent = True
            return pb.ServeSocketRequest(connection_id=number, half_closed=pb.SocketHalfClosed())
        return None

    def _data_frame(self) -> pb.ServeSocketRequest | None:
        size = min(PIECE_BYTES, self._may_send)
        if size <= 0:
            return None
        data = bytes(self._out[:size])
        del self._out[:size]
        self._may_send -= len(data)
        self._may_resume()
        return pb.ServeSocketRequest(connection_id=self._number, data=data)

    # asyncio.Transport

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._deliver)

    def write(self, data: Any) -> None:
        if self._closing or self._eof:
            return
        self._out += data
        if len(self._out) > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()
        self._ready()

    def _may_resume(self) -> None:
        if self._writing_paused and len(self._out) <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = _HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return len(self._out)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._eof = True
        self._ready()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._ready()

    def abort(self) -> None:
        if not self._lost:
            self._aborted = self._closing = True
            self._out.clear()
            self._ready()
            self._loop.call_soon(self.lost, None)
