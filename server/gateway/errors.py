"""Failures as programs know them: a status, a word and, where it makes sense, when to try again."""

from collections.abc import Mapping
from dataclasses import dataclass

from portway.rpc import errors
from portway.rpc.errors import PortwayError, Reason
from portway.server.models.errors import ModelAuthFailed, ModelContextLength, ModelError

_ENDED = (Reason.RUN_FINISHED, Reason.ATTEMPT_SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Failure:
    """`again`: the same request may succeed later."""

    status: int
    again: bool
    message: str
    headers: Mapping[str, str]


def failure_of(error: PortwayError) -> Failure:
    """The status by meaning. Both vendors' clients try again on 429 and 5xx, unless they are told not to."""
    status, again = _status(error)
    headers = {"x-should-retry": "true" if again else "false"}
    if again and error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    fields = "; ".join(f"{one.field}: {one.description}" for one in error.fields)
    message = f"{error.message} ({fields})" if fields and fields not in error.message else error.message
    return Failure(status, again, message, headers)


def _status(error: PortwayError) -> tuple[int, bool]:
    if error.reason in _ENDED or isinstance(error, errors.NotAuthenticated):
        return 401, False
    if error.reason == Reason.BUDGET_EXHAUSTED:
        return 429, False
    if isinstance(error, ModelAuthFailed):
        # The provider refused the host's key: nothing that the program could mend.
        return 502, False
    if isinstance(error, ModelContextLength):
        return 400, False
    table: tuple[tuple[type[PortwayError], int, bool], ...] = (
        (errors.PayloadTooLarge, 413, False),
        (errors.LimitExceeded, 429, True),
        (errors.InvalidInput, 400, False),
        (errors.NotFound, 404, False),
        (errors.NotPermitted, 403, False),
        (errors.DeadlineExceeded, 504, False),
        (errors.NotAvailable, 501, False),
        (errors.Unavailable, 503, True),
        (errors.WrongState, 409, False),
    )
    for kind, status, again in table:
        if isinstance(error, kind):
            return status, getattr(error, "retryable", again) if isinstance(error, ModelError) else again
    return 500, False
