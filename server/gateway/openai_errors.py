"""Errors in the shape of OpenAI."""

from collections.abc import Mapping
from typing import Any

from portway.rpc.errors import PortwayError, Reason
from portway.server.gateway.errors import failure_of
from portway.server.gateway.shape import Refusal
from portway.server.models.errors import ModelContextLength

_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "invalid_request_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_exceeded",
}
_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


def error_body(error: PortwayError) -> Mapping[str, Any]:
    failure = failure_of(error)
    kind, code = _TYPES.get(failure.status, "server_error"), _CODES.get(failure.status)
    if error.reason == Reason.BUDGET_EXHAUSTED:
        kind = code = "insufficient_quota"
    elif isinstance(error, ModelContextLength):
        code = "context_length_exceeded"
    field = error.fields[0].field if error.fields else None
    return {"error": {"message": failure.message, "type": kind, "param": field, "code": code}}


def refusal_of(error: PortwayError) -> Refusal:
    failure = failure_of(error)
    return Refusal(failure.status, error_body(error), failure.headers)
