"""What the runtime and its fork server say to each other: one JSON object in each datagram."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

MAX_MESSAGE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Start:
    """Starts a process. It comes with two descriptors: where its output and its errors go.

    `arguments` is empty for a Python plugin, which runs in a fork. `tag` stands in the environment of the process and
    of what it starts, so that these are found when it is gone.
    """

    id: int
    name: str
    folder: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    memory_bytes: int
    open_files: int
    tag: str
    # Files through which it joins its control groups.
    groups: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Signal:
    """Sends a signal to the process and its group."""

    id: int
    number: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The fork server has loaded what its forks share."""


@dataclass(frozen=True, slots=True)
class Started:
    id: int
    pid: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The process is gone, and its group with it. One of `code` and `signal` says how; `error`: it never was."""

    id: int
    code: int = 0
    signal: int = 0
    error: str = ""


Request = Start | Signal
Report = Ready | Started | Exited

_TYPES = {cls.__name__: cls for cls in (Start, Signal, Ready, Started, Exited)}


def pack(message: Request | Report) -> bytes:
    """Raises `ValueError` for a message that does not fit into a datagram."""
    raw = json.dumps([type(message).__name__, asdict(message)]).encode()
    if len(raw) > MAX_MESSAGE:
        raise ValueError(f"the command and environment of a plugin have {len(raw)} bytes; {MAX_MESSAGE} fit")
    return raw


def unpack_request(raw: bytes) -> Request:
    message = _unpack(raw)
    assert isinstance(message, Start | Signal)
    return message


def unpack_report(raw: bytes) -> Report:
    message = _unpack(raw)
    assert isinstance(message, Ready | Started | Exited)
    return message


def _unpack(raw: bytes) -> object:
    name, fields = json.loads(raw)
    return _TYPES[name](**fields)
