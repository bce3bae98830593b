"""What a platform's adapter implements, and how it says that a call went wrong."""

from dataclasses import dataclass
from typing import Protocol

from portway.adapters.kit.live_types import LiveUpdate
from portway.adapters.kit.types import LinkState, Outbound, Piece, Target


class SendError(Exception):
    """A piece could not be sent. `message` is for operators: what happened and what to do."""

    def __init__(self, message: str, *, code: str = "platform.refused") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class RetryLater(SendError):
    """It certainly did not arrive, and may later. `retry_after` is in seconds."""

    def __init__(self, message: str, *, code: str = "platform.unavailable", retry_after: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class Refused(SendError):
    """The platform will never take it."""


class Doubtful(SendError):
    """The request left and no answer came."""

    def __init__(self, message: str, *, code: str = "platform.no_answer") -> None:
        super().__init__(message, code=code)


@dataclass(frozen=True, slots=True)
class Sent:
    """The platform has it, under this id of its own."""

    provider_message_id: str = ""


class Platform(Protocol):
    """One chat platform. Errors other than `SendError` are bugs; the delivery is then reported as unknown."""

    async def send(self, piece: Piece) -> Sent:
        """Sends one piece of a message. Raises `RetryLater`, `Refused` or `Doubtful`."""
        ...

    async def act(self, outbound: Outbound) -> Sent:
        """Does what is not a message: an edit, a reaction, a question, an action. Raises as `send`; `Refused` for what
        the platform does not have."""
        ...

    async def was_sent(self, piece: Piece) -> Sent | None:
        """Looks whether a piece whose call was cut off has arrived; None: it certainly has not. Raises `Doubtful` where
        the platform has no way to tell."""
        ...

    def run_changed(self, update: LiveUpdate) -> None:
        """Live text of a run. Returns at once."""
        ...

    def typing_changed(self, target: Target, on: bool) -> None:
        """Somebody writes in that chat, or does no longer. Returns at once. `on` comes again every few seconds while it
        lasts; only where the surface's limits say `typing`."""
        ...

    def link_changed(self, state: LinkState) -> None:
        """The connection to the host came or went. Returns at once."""
        ...
