"""The failure of one call on a run's stream or session: what the unary method would have answered as its status."""

import grpc

from portway.rpc.errors import FieldViolation, InternalError, PortwayError
from portway.rpc.status import MAX_MESSAGE_CHARS, MAX_VIOLATIONS, code_of, meaning_of
from portway.v1 import run_call_pb2 as pb

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def to_call_error(error: PortwayError) -> pb.RunCallError:
    message = pb.RunCallError(
        code=code_of(error).value[0],
        # Where a failure has a code that runs publish, such as `model.rate_limited`, it says more than the reason.
        reason=error.facts.get("code") or str(error.reason),
        message=error.message[:MAX_MESSAGE_CHARS],
        violations=[
            pb.FieldViolation(field=one.field, description=one.description) for one in error.fields[:MAX_VIOLATIONS]
        ],
    )
    if error.retry_after is not None:
        message.retry_after.FromMilliseconds(max(0, round(error.retry_after * 1000)))
    return message


def from_call_error(message: pb.RunCallError) -> PortwayError:
    """What the unary method would have raised on the client's side."""
    code = _CODES.get(message.code)
    meaning = meaning_of(code, message.reason) if code else InternalError
    return meaning(
        message.message or "the call failed and the host did not say why",
        reason=message.reason or None,
        fields=[FieldViolation(one.field, one.description) for one in message.violations],
        retry_after=message.retry_after.ToMilliseconds() / 1000 if message.HasField("retry_after") else None,
    )
