"""Errors by meaning. Domain code raises these; `status.py` maps them to gRPC codes and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Reason(StrEnum):
    """The published reasons (`google.rpc.ErrorInfo.reason`, domain `portway`). Added to, never renamed."""

    INVALID_FIELD = "INVALID_FIELD"
    UNPARSABLE_MESSAGE = "UNPARSABLE_MESSAGE"
    MISSING_MESSAGE = "MISSING_MESSAGE"
    UNEXPECTED_FRAME = "UNEXPECTED_FRAME"
    INVALID_CURSOR = "INVALID_CURSOR"
    OUT_OF_RANGE = "OUT_OF_RANGE"

    TOKEN_MISSING = "TOKEN_MISSING"
    TOKEN_INVALID = "TOKEN_INVALID"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    TOKEN_REVOKED = "TOKEN_REVOKED"
    ROLE_LACKS_METHOD = "ROLE_LACKS_METHOD"
    NOT_GRANTED = "NOT_GRANTED"
    REFUSED_BY_POLICY = "REFUSED_BY_POLICY"
    CERTIFICATE_UNKNOWN = "CERTIFICATE_UNKNOWN"

    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    SAME_KEY_OTHER_BODY = "SAME_KEY_OTHER_BODY"
    STALE_VERSION = "STALE_VERSION"
    ATTEMPT_SUPERSEDED = "ATTEMPT_SUPERSEDED"
    STREAM_SUPERSEDED = "STREAM_SUPERSEDED"
    OLD_EPOCH = "OLD_EPOCH"

    WRONG_STATE = "WRONG_STATE"
    RUN_FINISHED = "RUN_FINISHED"
    NO_BINDING = "NO_BINDING"
    BINDING_AMBIGUOUS = "BINDING_AMBIGUOUS"
    AGENT_DISABLED = "AGENT_DISABLED"
    KILL_SWITCH = "KILL_SWITCH"
    WORKSPACE_DISABLED = "WORKSPACE_DISABLED"
    CONVERSATION_BUSY = "CONVERSATION_BUSY"
    TOOL_UNAVAILABLE = "TOOL_UNAVAILABLE"
    MANAGED_BY_CONFIG = "MANAGED_BY_CONFIG"
    IN_USE = "IN_USE"
    EFFECT_UNKNOWN = "EFFECT_UNKNOWN"
    AWAITING_INTERACTION = "AWAITING_INTERACTION"
    INTERACTION_EXPIRED = "INTERACTION_EXPIRED"
    INTERACTION_WITHDRAWN = "INTERACTION_WITHDRAWN"
    APPROVAL_DENIED = "APPROVAL_DENIED"
    APPROVAL_EXPIRED = "APPROVAL_EXPIRED"
    APPROVAL_STALE = "APPROVAL_STALE"
    RUNNER_CRASHED = "RUNNER_CRASHED"
    RUNNER_UNAVAILABLE = "RUNNER_UNAVAILABLE"
    PLUGIN_BUNDLED = "PLUGIN_BUNDLED"
    PLUGIN_DOES_NOT_START = "PLUGIN_DOES_NOT_START"
    PERMISSIONS_GROWN = "PERMISSIONS_GROWN"
    DOWNGRADE = "DOWNGRADE"
    SIGNATURE_MISSING = "SIGNATURE_MISSING"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    SIGNATURE_KEY_UNKNOWN = "SIGNATURE_KEY_UNKNOWN"
    STALE_HOST = "STALE_HOST"
    NOT_CONFIGURED = "NOT_CONFIGURED"
    NOT_SUPPORTED_HERE = "NOT_SUPPORTED_HERE"
    NOT_AVAILABLE = "NOT_AVAILABLE"

    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    RATE_LIMITED = "RATE_LIMITED"
    OVERLOADED = "OVERLOADED"
    SLOW_READER = "SLOW_READER"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    TOOL_ROUNDS_EXHAUSTED = "TOOL_ROUNDS_EXHAUSTED"
    DISK_FULL = "DISK_FULL"

    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    UNAVAILABLE = "UNAVAILABLE"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    UNREACHABLE = "UNREACHABLE"
    DATA_LOSS = "DATA_LOSS"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field. `field` is its path in the request, such as `filters[0].value`."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class Resource:
    """The resource an error is about, such as type `run` and name `run_0190…`."""

    type: str
    name: str


@dataclass(frozen=True, slots=True)
class Quota:
    """The limit that was met: whose it is and what it says."""

    subject: str
    description: str


class PortwayError(Exception):
    """The base of all meanings; raise a subclass.

    `message` is read by people: what happened, where, and what to do next, without a secret or a detail of the inside.
    `reason` is read by programs; a newer server may send one that is not in `Reason`. `retry_after` is in seconds.
    `facts` are short further values for programs.
    """

    default_reason: ClassVar[Reason] = Reason.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | str | None = None,
        fields: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
        resource: Resource | None = None,
        quota: Quota | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason: Reason | str = reason or self.default_reason
        self.fields = tuple(fields)
        self.retry_after = retry_after
        self.resource = resource
        self.quota = quota
        self.facts: Mapping[str, str] = facts or {}


class InvalidInput(PortwayError):
    """The request is wrong whatever the state of the system."""

    default_reason = Reason.INVALID_FIELD

    @classmethod
    def field(cls, path: str, description: str) -> "InvalidInput":
        """One wrong field: the usual case."""
        return cls(f"{path}: {description}", fields=[FieldViolation(path, description)])


class OutOfRange(PortwayError):
    """A range or cursor reaches past the end."""

    default_reason = Reason.OUT_OF_RANGE


class NotAuthenticated(PortwayError):
    """No token, or one that is not valid."""

    default_reason = Reason.TOKEN_INVALID


class NotPermitted(PortwayError):
    """The caller is known, and its role or manifest lacks this operation."""

    default_reason = Reason.NOT_GRANTED


class NotFound(PortwayError):
    """It does not exist, or the caller may not know that it does."""

    default_reason = Reason.NOT_FOUND

    @classmethod
    def of(cls, kind: str, name: str) -> "NotFound":
        """The usual case: a `kind` such as `run` that has no entry under `name`."""
        return cls(f"no {kind} {name!r} in this workspace", resource=Resource(kind, name))


class Conflict(PortwayError):
    """It exists already, with other content."""

    default_reason = Reason.ALREADY_EXISTS


class Stale(PortwayError):
    """The caller worked on something that has moved on: read again, then decide."""

    default_reason = Reason.STALE_VERSION


class WrongState(PortwayError):
    """The request is right but the system is not in a state that allows it; waiting alone does not help."""

    default_reason = Reason.WRONG_STATE


class LimitExceeded(PortwayError):
    """A quota, budget or capacity is used up."""

    default_reason = Reason.QUOTA_EXCEEDED


class PayloadTooLarge(LimitExceeded):
    """One message, value or file is larger than allowed."""

    default_reason = Reason.PAYLOAD_TOO_LARGE


class RateLimited(LimitExceeded):
    """Too many requests for now; `retry_after` says when."""

    default_reason = Reason.RATE_LIMITED


class DeadlineExceeded(PortwayError):
    """The time that was given is over; the effect may have happened."""

    default_reason = Reason.DEADLINE_EXCEEDED


class Cancelled(PortwayError):
    """The caller went away or took the request back."""

    default_reason = Reason.CANCELLED


class Unavailable(PortwayError):
    """Not reachable or not ready for now; the same request may succeed later."""

    default_reason = Reason.UNAVAILABLE


class NotAvailable(PortwayError):
    """The contract has it and this version does not serve it."""

    default_reason = Reason.NOT_AVAILABLE


class DataLoss(PortwayError):
    """Stored data is damaged or gone."""

    default_reason = Reason.DATA_LOSS


class InternalError(PortwayError):
    """A bug. The message holds an id that is in the server's log, and nothing of the inside."""

    default_reason = Reason.INTERNAL
