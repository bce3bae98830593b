"""What the shapes of the vendors have in common: a question that was read, and an answer that is to be written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from portway.rpc.errors import PortwayError
from portway.server.models.types import ModelEvent, ModelRequest
from portway.server.runner_calls.asking import Answered


@dataclass(frozen=True, slots=True)
class Asked:
    """`model` is the name that the program asked for."""

    model: str
    question: ModelRequest
    stream: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error in a vendor's shape."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str]


class Writer(Protocol):
    """Writes one answer. Streamed, each piece is the bytes of server-sent events."""

    def provider(self, provider_id: str) -> None:
        """Who answers: whose reasoning it is. Told before the first piece."""

    def whole(self, answer: Answered) -> Mapping[str, Any]:
        """The body of an answer that is not streamed."""

    def begin(self) -> Iterable[bytes]:
        """Before the first piece."""

    def piece(self, event: ModelEvent) -> Iterable[bytes]:
        """One event of the answer."""

    def end(self, answer: Answered) -> Iterable[bytes]:
        """After the last one."""

    def broken(self, error: PortwayError) -> Iterable[bytes]:
        """The answer fails after it began."""


class Shape(Protocol):
    """One endpoint of a vendor; made for one request."""

    def read(self, body: Mapping[str, Any]) -> Asked:
        """Raises InvalidInput with the path of what is wrong."""

    def writer(self, asked: Asked) -> Writer:
        """For one answer."""

    def refusal(self, error: PortwayError) -> Refusal:
        """An error before an answer began."""
