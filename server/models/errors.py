"""Failures of models, with the codes that runs publish. Each is also one of the meanings of `rpc.errors`.

A message names the provider and the model and says what to do; it never holds a key, whatever a vendor answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from portway.rpc.errors import (
    DeadlineExceeded,
    FieldViolation,
    InvalidInput,
    NotFound,
    PortwayError,
    RateLimited,
    Unavailable,
    WrongState,
)


class ModelErrorCode(StrEnum):
    """The published codes. Added to, never renamed."""

    AUTH = "model.auth"
    RATE_LIMITED = "model.rate_limited"
    UNAVAILABLE = "model.unavailable"
    BAD_REQUEST = "model.bad_request"
    CONTEXT_LENGTH = "model.context_length"
    NOT_FOUND = "model.not_found"
    TIMEOUT = "model.timeout"
    BAD_OUTPUT = "model.bad_output"
    CONTENT_FILTER = "model.content_filter"
    DISABLED = "model.disabled"


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A model that failed before its first output, and why: recorded when a fallback takes its place."""

    model_id: str
    code: ModelErrorCode
    message: str
    retryable: bool


class ModelError(PortwayError):
    """The base; raise a subclass.

    `retryable` says whether the same request may succeed later; `passed_over` lists the models that failed before this
    one in the same call, `fields` what of the request is to be mended.
    """

    code: ClassVar[ModelErrorCode]
    retryable: bool

    def __init__(
        self,
        message: str,
        *,
        provider_id: str,
        model_id: str,
        retry_after: float | None = None,
        passed_over: tuple[PassedOver, ...] = (),
        fields: Sequence[FieldViolation] = (),
    ) -> None:
        facts = {"code": str(self.code), "provider": provider_id, "model": model_id}
        super().__init__(message, retry_after=retry_after, facts=facts, fields=fields)
        self.provider_id = provider_id
        self.model_id = model_id
        self.passed_over = passed_over


class ModelAuthFailed(ModelError, WrongState):
    """The provider refused the key, or the key may not use this model."""

    code = ModelErrorCode.AUTH
    retryable = False


class ModelRateLimited(ModelError, RateLimited):
    """Too many requests or tokens, at the provider or at this host's own limit."""

    code = ModelErrorCode.RATE_LIMITED
    retryable = True


class ModelUnavailable(ModelError, Unavailable):
    """The provider could not be reached, broke off, or failed by itself."""

    code = ModelErrorCode.UNAVAILABLE
    retryable = True


class ModelBadRequest(ModelError, InvalidInput):
    """The provider refused the request as it is."""

    code = ModelErrorCode.BAD_REQUEST
    retryable = False


class ModelContextLength(ModelError, InvalidInput):
    """The request is longer than the model's context window."""

    code = ModelErrorCode.CONTEXT_LENGTH
    retryable = False


class ModelNotFound(ModelError, NotFound):
    """No such model, here or at the provider."""

    code = ModelErrorCode.NOT_FOUND
    retryable = False


class ModelTimeout(ModelError, DeadlineExceeded):
    """The provider did not answer, or went silent, for longer than allowed."""

    code = ModelErrorCode.TIMEOUT
    retryable = True


class ModelBadOutput(ModelError, Unavailable):
    """The provider answered something that is no answer: unreadable, unfinished, empty or far too long."""

    code = ModelErrorCode.BAD_OUTPUT
    retryable = True


class ModelContentFiltered(ModelError, InvalidInput):
    """The provider refused the content of the request or of its own answer."""

    code = ModelErrorCode.CONTENT_FILTER
    retryable = False


class ModelDisabled(ModelError, WrongState):
    """An operator switched the model or its provider off."""

    code = ModelErrorCode.DISABLED
    retryable = False
