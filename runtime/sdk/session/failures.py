"""How an exception that leaves a runner becomes the published code of a failed run."""

from dataclasses import replace

from portway.rpc.errors import PortwayError, Reason
from portway.rpc.redaction import redact_text
from portway.runtime.sdk.session.encode import ResultRefused
from portway.runtime.sdk.types.results import RunError, RunFailed

MAX_MESSAGE = 2000

_CODES: dict[str, str] = {
    Reason.DEADLINE_EXCEEDED: "runner.timeout",
    Reason.BUDGET_EXHAUSTED: "budget.exhausted",
    Reason.CANCELLED: "cancelled",
    Reason.EFFECT_UNKNOWN: "tool.effect_unknown",
}
_RETRYABLE = frozenset({"runner.timeout", "model.rate_limited", "model.unavailable", "model.timeout"})
# Reasons that are published codes themselves.
_PUBLISHED_PREFIXES = ("model.", "tool.", "harness.", "runner.")


class RunFailure(Exception):
    """Raised by a runner to fail its run with a code of its choice, such as `harness.cli_missing`."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.error = RunError(code, message, retryable)

    def reword(self, message: str) -> None:
        """Gives it another message, for who passes it on and knows what must not be said."""
        self.args = (message,)
        self.error = replace(self.error, message=message)


def failed(error: Exception) -> RunFailed:
    """What a run ends with that `error` left."""
    match error:
        case RunFailure():
            return RunFailed(error.error)
        case ResultRefused():
            return RunFailed(RunError("runner.protocol", str(error)))
        case PortwayError():
            return RunFailed(_of_host(error))
        case _:
            text = _text(f"the runner raised {type(error).__name__}: {error}")
            return RunFailed(RunError("runner.error", f"{text} (the traceback is in the plugin's log)"))


def _of_host(error: PortwayError) -> RunError:
    reason = str(error.reason)
    code = reason if reason.startswith(_PUBLISHED_PREFIXES) else _CODES.get(reason, "runner.error")
    return RunError(code, _text(error.message), code in _RETRYABLE)


def _text(text: str) -> str:
    text = redact_text(text)
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"
