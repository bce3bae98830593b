"""Connections on which no request comes to its beginning: whoever sends the head of one too slowly is let go."""

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as Base
else:
    # The server's packages are loaded where HTTP is used; its class comes behind this one.
    Base = object


class _Patience(Base):
    """Bodies have bounds of their own, and between requests the server's own bound holds."""

    seconds = 0.0
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._unasked():
            self._stop()
        elif self._late is None and self.timeout_keep_alive_task is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _unasked(self) -> bool:
        cycle: Any = self.cycle
        return cycle is None or bool(cycle.response_complete)

    def _wait(self) -> None:
        self._late = self.loop.call_later(self.seconds, self._give_up)

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if self._unasked() and not self.transport.is_closing():
            self.transport.close()


def patient_protocol(seconds: float) -> "type[Base]":
    """The server's protocol, with so much time from the connection, or the first byte, to a whole head."""
    from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415 - as the server itself, only where used

    return type("PatientProtocol", (_Patience, H11Protocol), {"seconds": seconds})
