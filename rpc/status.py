"""One table between the meanings of errors and gRPC status with `google.rpc` details, read in both directions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as PackedDetail
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from portway.rpc import errors
from portway.rpc.errors import FieldViolation, PortwayError, Quota, Reason, Resource

DOMAIN = "portway"
DETAILS_KEY = "grpc-status-details-bin"

# Trailers share one header frame whose limit is 8 KiB by default. In it the details grow by a third (base64), and a
# character of the plain message that is not ASCII takes about nine bytes; the details hold the message once more.
MAX_DETAILS_BYTES = 4608
MAX_MESSAGE_CHARS = 500
MAX_FOREIGN_MESSAGE_CHARS = 150
MAX_VIOLATIONS = 16
MAX_FACTS = 4
MAX_VIOLATION_CHARS = 120

_Code = grpc.StatusCode

# The first row of a code is what the code alone means; further rows are told apart by their reason.
TABLE: tuple[tuple[type[PortwayError], grpc.StatusCode], ...] = (
    (errors.InvalidInput, _Code.INVALID_ARGUMENT),
    (errors.OutOfRange, _Code.OUT_OF_RANGE),
    (errors.NotAuthenticated, _Code.UNAUTHENTICATED),
    (errors.NotPermitted, _Code.PERMISSION_DENIED),
    (errors.NotFound, _Code.NOT_FOUND),
    (errors.Conflict, _Code.ALREADY_EXISTS),
    (errors.Stale, _Code.ABORTED),
    (errors.WrongState, _Code.FAILED_PRECONDITION),
    (errors.LimitExceeded, _Code.RESOURCE_EXHAUSTED),
    (errors.PayloadTooLarge, _Code.RESOURCE_EXHAUSTED),
    (errors.RateLimited, _Code.RESOURCE_EXHAUSTED),
    (errors.DeadlineExceeded, _Code.DEADLINE_EXCEEDED),
    (errors.Cancelled, _Code.CANCELLED),
    (errors.Unavailable, _Code.UNAVAILABLE),
    (errors.NotAvailable, _Code.UNIMPLEMENTED),
    (errors.DataLoss, _Code.DATA_LOSS),
    (errors.InternalError, _Code.INTERNAL),
)

_CODE_OF_MEANING = dict(TABLE)
_MEANING_OF_CODE = {code: meaning for meaning, code in reversed(TABLE)}
_MEANING_OF_REASON = {(code, str(meaning.default_reason)): meaning for meaning, code in TABLE}


def meaning_of(code: grpc.StatusCode, reason: str) -> type[PortwayError]:
    """What a code with a reason means; a reason that is not in the table leaves the meaning of the code alone."""
    return _MEANING_OF_REASON.get((code, reason)) or _MEANING_OF_CODE.get(code, errors.InternalError)


@dataclass(frozen=True, slots=True)
class WireStatus:
    """What the server sends: `trailers` holds the packed details."""

    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, bytes], ...]


def code_of(error: PortwayError) -> grpc.StatusCode:
    for meaning in type(error).__mro__:
        code = _CODE_OF_MEANING.get(meaning)
        if code is not None:
            return code
    return _Code.INTERNAL


def to_wire(error: PortwayError) -> WireStatus:
    code = code_of(error)
    message = _shorten(error.message, MAX_MESSAGE_CHARS)
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in _details_of(error):
        _pack(detail, status)
    if error.fields:
        _pack(_violations_of(error, MAX_DETAILS_BYTES - status.ByteSize()), status)
    plain = message if message.isascii() else _shorten(message, MAX_FOREIGN_MESSAGE_CHARS)
    return WireStatus(code, plain, ((DETAILS_KEY, status.SerializeToString()),))


def _pack(detail: Message, status: status_pb2.Status) -> None:
    packed = PackedDetail()
    packed.Pack(detail)
    status.details.append(packed)


def _details_of(error: PortwayError) -> Iterator[Message]:
    yield error_details_pb2.ErrorInfo(
        reason=error.reason,
        domain=DOMAIN,
        metadata={key: _shorten(value, MAX_VIOLATION_CHARS) for key, value in islice(error.facts.items(), MAX_FACTS)},
    )
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(max(0, round(error.retry_after * 1000)))
        yield retry
    if error.resource is not None:
        name = _shorten(error.resource.name, MAX_VIOLATION_CHARS)
        yield error_details_pb2.ResourceInfo(resource_type=error.resource.type, resource_name=name)
    if error.quota is not None:
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=_shorten(error.quota.subject, MAX_VIOLATION_CHARS),
            description=_shorten(error.quota.description, MAX_VIOLATION_CHARS),
        )
        yield error_details_pb2.QuotaFailure(violations=[violation])


def _violations_of(error: PortwayError, room: int) -> error_details_pb2.BadRequest:
    """As many violations as fit; one too many is left out rather than the whole error lost."""
    bad = error_details_pb2.BadRequest()
    for one in error.fields[:MAX_VIOLATIONS]:
        bad.field_violations.add(
            field=_shorten(one.field, MAX_VIOLATION_CHARS), description=_shorten(one.description, MAX_VIOLATION_CHARS)
        )
        if bad.ByteSize() > room:
            bad.field_violations.pop()
            break
    return bad


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def error_from_rpc(error: grpc.aio.AioRpcError) -> PortwayError:
    """The meaning of what a server answered. A code without details still gets the meaning of its code."""
    trailers = error.trailing_metadata() or ()
    packed = next((value for key, value in trailers if key == DETAILS_KEY), b"")
    status = status_pb2.Status()
    try:
        status.ParseFromString(packed if isinstance(packed, bytes) else packed.encode())
    except DecodeError:
        status.Clear()
    code = error.code()
    found = _read_details(status)
    reason = found.pop("reason", None)
    meaning = meaning_of(code, str(reason))
    if reason is None and code is _Code.UNAVAILABLE:
        # The library's own answer: nothing was reached that could have said why.
        reason = Reason.UNREACHABLE
    return meaning(status.message or error.details() or code.name, reason=reason, **found)


def _read_details(status: status_pb2.Status) -> dict[str, Any]:
    found: dict[str, Any] = {}
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    resource, quota = error_details_pb2.ResourceInfo(), error_details_pb2.QuotaFailure()
    bad = error_details_pb2.BadRequest()
    for packed in status.details:
        if packed.Unpack(info):
            found |= {"reason": _known_reason(info.reason), "facts": dict(info.metadata)}
        elif packed.Unpack(retry):
            found["retry_after"] = retry.retry_delay.ToMilliseconds() / 1000
        elif packed.Unpack(resource):
            found["resource"] = Resource(resource.resource_type, resource.resource_name)
        elif packed.Unpack(quota) and quota.violations:
            found["quota"] = Quota(quota.violations[0].subject, quota.violations[0].description)
        elif packed.Unpack(bad):
            found["fields"] = [FieldViolation(one.field, one.description) for one in bad.field_violations]
    return found


def _known_reason(text: str) -> Reason | str:
    try:
        return Reason(text)
    except ValueError:
        return text


@contextmanager
def errors_by_meaning() -> Iterator[None]:
    """Around client calls: what the server answered is raised as the meaning it had there."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from error
