"""A socket as its owner offers it, as it is told, and the frames between the two ends of its connections."""

from dataclasses import dataclass
from enum import StrEnum

from portway.box.sessions.types import SessionRef

DEFAULT_CREDIT = 64 * 1024


class SocketEnd(StrEnum):
    """Where inside something connects."""

    PATH = "path"
    PORT = "port"


@dataclass(frozen=True, slots=True)
class SocketOffer:
    """What an owner asks for. `port`: `None` for none, 0 for a free one. `credit`: bytes of a connection it takes."""

    ref: SessionRef
    name: str
    port: int | None = None
    generation: int = 0
    credit: int = DEFAULT_CREDIT


@dataclass(frozen=True, slots=True)
class SocketPlace:
    """Where commands find it."""

    path: str
    port: int


@dataclass(frozen=True, slots=True)
class ServedSocket:
    """One that is served now. Time in seconds since the epoch, bytes."""

    ref: SessionRef
    name: str
    place: SocketPlace
    generation: int
    connection_count: int
    total_connection_count: int
    received_bytes: int
    sent_bytes: int
    create_time: float


@dataclass(frozen=True, slots=True)
class Opened:
    """Something inside connected."""

    number: int
    end: SocketEnd


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of one side for the other."""

    number: int
    data: bytes


@dataclass(frozen=True, slots=True)
class HalfClosed:
    """One side says no more."""

    number: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection has ended."""

    number: int
    reset: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Credit:
    """So many more bytes may be sent."""

    number: int
    size: int


FromOwner = Data | HalfClosed | Closed | Credit
ToOwner = Opened | Data | HalfClosed | Closed | Credit
