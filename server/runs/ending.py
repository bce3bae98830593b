"""How an attempt ended, and what the host makes of it."""

from dataclasses import dataclass

from portway.rpc.errors import (
    Cancelled,
    DeadlineExceeded,
    LimitExceeded,
    NotFound,
    PortwayError,
    Reason,
    Unavailable,
    WrongState,
)
from portway.server.runs.types import Failure

# Published codes.
CANCELLED = "cancelled"
TIMEOUT = "runner.timeout"
ERROR = "runner.error"
CRASHED = "runner.crashed"
PROTOCOL = "runner.protocol"
NO_TERMINAL_RESULT = "runner.no_terminal_result"
EMPTY_OUTPUT = "runner.empty_output"
UNAVAILABLE = "runner.unavailable"
RESTARTED = "host.restarted"
HOST_ERROR = "host.error"
EFFECT_UNKNOWN = "tool.effect_unknown"
BUDGET_EXHAUSTED = "budget.exhausted"
TOOL_ROUNDS = "tool.too_many_rounds"

# The finish reason of a run that asked people something.
AWAITING = "awaiting_interaction"

# A run that is cut off again and again is given up.
MAX_ATTEMPTS = 3


class ProtocolBroken(Exception):
    """The runner said something that the protocol does not allow. The text says what."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The runner ended well. `runner_sequence` is that of its terminal result."""

    finish_reason: str
    runner_sequence: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The run ended badly: by the runner's own word, or because it did not end as it must. `interrupted`: it was cut
    off by something that is not the runner's own doing."""

    failure: Failure
    runner_sequence: int = 0
    details: bytes = b""
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another attempt or host has taken over: nothing is written any more."""


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """This host stops: the next one decides what becomes of the run."""


Ending = Completed | Failed | Superseded | LeftBehind


def failed(code: str, message: str, *, retryable: bool = False) -> Failed:
    return Failed(Failure(code, message, retryable))


def of_stream_error(error: PortwayError, runner_id: str) -> Failed:
    """What it means that a run's stream broke off."""
    if error.reason == Reason.RUNNER_CRASHED:
        return failed(CRASHED, f"The plugin of {runner_id} crashed during the run: {error.message}", retryable=True)
    if error.reason in (Reason.RUNNER_UNAVAILABLE, Reason.SHUTTING_DOWN):
        return failed(UNAVAILABLE, f"The runner {runner_id} cannot be started: {error.message}", retryable=True)
    if isinstance(error, NotFound):
        return failed(UNAVAILABLE, f"The runtime has no runner {runner_id}: {error.message}")
    if isinstance(error, Unavailable | Cancelled):
        # Cancelled: the host itself has given the connection up, because the runtime is a new one.
        failure = Failure(CRASHED, f"The runtime went away while {runner_id} ran: {error.message}", True)
        return Failed(failure, interrupted=True)
    if isinstance(error, DeadlineExceeded):
        return failed(TIMEOUT, f"{runner_id} did not end within its deadline.", retryable=True)
    if isinstance(error, LimitExceeded):
        return failed(UNAVAILABLE, f"The runtime takes no more runs of {runner_id}: {error.message}", retryable=True)
    return failed(ERROR, f"The runtime refused to run {runner_id}: {error.message}")


def of_preparation_error(error: PortwayError, runner_id: str) -> Failed:
    """What it means that a run could not even be prepared."""
    code = error.facts.get("code", "")
    if code:
        return failed(code, error.message)
    if error.reason == Reason.BUDGET_EXHAUSTED:
        return failed(BUDGET_EXHAUSTED, error.message)
    if isinstance(error, Unavailable):
        return failed(UNAVAILABLE, error.message, retryable=True)
    if isinstance(error, NotFound | WrongState):
        return failed(UNAVAILABLE, error.message)
    return failed(HOST_ERROR, f"The run of {runner_id} could not be prepared: {error.message}")
