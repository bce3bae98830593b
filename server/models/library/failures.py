"""From what the library, the vendor's SDK and HTTP raise to the published model errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import httpx2
from pydantic_ai.exceptions import (
    AgentRunError,
    ContentFilterError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelRequestTimeout,
    ModelServerError,
    ModelTimeoutError,
    ModelUnavailableError,
    UnexpectedModelBehavior,
    UserError,
)
from pydantic_ai.exceptions import ModelConnectionError as LibraryConnectionError

from portway.server.models.errors import (
    ModelAuthFailed,
    ModelBadOutput,
    ModelBadRequest,
    ModelContentFiltered,
    ModelContextLength,
    ModelError,
    ModelNotFound,
    ModelRateLimited,
    ModelTimeout,
    ModelUnavailable,
)
from portway.server.outbound.client import AnswerTooLarge, OutboundRefused

# What a call into the library may raise when the provider, the network or the request is at fault; besides, the base
# class of the vendor's SDK.
CAUGHT: tuple[type[Exception], ...] = (AgentRunError, UserError, httpx2.HTTPError, ValueError)

_MAX_QUOTE = 300
_KEY_LIKE = re.compile(r"(?i)\bbearer\s+\S+|\b(?:sk|pk|rk|key|api)[-_][\w*.-]{6,}")

_TOO_LATE = "did not answer in time; try again, or raise timeouts.read"
_UNREACHED = "could not be reached, or broke off; check the network and the base_url in models.providers.{provider}"

# The first row whose library error fits decides the meaning and says what the person who reads it can do.
_MEANINGS: tuple[tuple[tuple[type[Exception], ...], type[ModelError], str], ...] = (
    (
        (ModelAuthenticationError,),
        ModelAuthFailed,
        "refused the key; set a valid one in models.providers.{provider}.api_key (or in the variable that api_key_env "
        "names), and check that it may use this model",
    ),
    (
        (ModelNotFoundError,),
        ModelNotFound,
        "does not have this model; check its name and the base_url in models.providers.{provider}",
    ),
    ((ModelContextWindowExceededError,), ModelContextLength, "says the request is too long; send less history"),
    (
        (ModelQuotaExceededError,),
        ModelRateLimited,
        "says that the account's quota or credit is used up; raise it there or use another model",
    ),
    ((ModelRateLimitError,), ModelRateLimited, "says that there were too many requests; wait, or lower the limits"),
    ((ModelTimeoutError, ModelRequestTimeout), ModelTimeout, _TOO_LATE),
    ((ModelUnavailableError, ModelServerError), ModelUnavailable, "is failing or overloaded; try again later"),
    ((LibraryConnectionError,), ModelUnavailable, _UNREACHED),
    (
        (ContentFilterError,),
        ModelContentFiltered,
        "refused the content by its own rules; change what is asked, or use another model",
    ),
    (
        (ModelRequestRejectedError, UserError),
        ModelBadRequest,
        "refused the request; see what it says and check what this model supports",
    ),
    (
        (UnexpectedModelBehavior, ModelAPIError, ValueError),
        ModelBadOutput,
        "answered something unreadable or stopped before the end; try again",
    ),
    ((httpx2.TimeoutException,), ModelTimeout, _TOO_LATE),
    ((Exception,), ModelUnavailable, _UNREACHED),
)


_BY_STATUS: Mapping[int, type[Exception]] = {
    401: ModelAuthenticationError,
    402: ModelQuotaExceededError,
    403: ModelAuthenticationError,
    404: ModelNotFoundError,
    408: ModelTimeoutError,
    429: ModelRateLimitError,
}


@dataclass(frozen=True, slots=True)
class FailureReader:
    """Names failures of one provider; `secrets` are the texts that no message may hold."""

    provider_id: str
    secrets: tuple[str, ...] = field(repr=False)

    def read(self, error: Exception, model: str) -> ModelError:
        """The published error. It does not refer to `error`, whose request holds the key."""
        policy = self._policy_failure(error, model)
        if policy is not None:
            return policy
        kind = _category(error)
        meaning, advice = next((made, text) for kinds, made, text in _MEANINGS if issubclass(kind, kinds))
        status = f" (HTTP {error.status_code})" if isinstance(error, ModelHTTPError) else ""
        advice = advice.format(provider=self.provider_id)
        message = f"provider {self.provider_id!r}, model {model!r}: it {advice}{status}"
        # A vendor's answer to a wrong key may repeat the key in a form that cannot be told from text.
        quote = "" if meaning is ModelAuthFailed else self._quote(error)
        failure = meaning(
            f"{message}. It said: {quote}" if quote else message,
            provider_id=self.provider_id,
            model_id=model,
            retry_after=error.retry_after if isinstance(error, ModelAPIError) else None,
        )
        if isinstance(error, ModelQuotaExceededError):
            failure.retryable = False
        return failure

    def unfinished(self, model: str) -> ModelError:
        """The stream ended well by HTTP, but the answer did not."""
        message = f"provider {self.provider_id!r}, model {model!r}: the answer stopped before its end; try again"
        return ModelBadOutput(message, provider_id=self.provider_id, model_id=model)

    def _policy_failure(self, error: Exception, model: str) -> ModelError | None:
        for cause in _causes(error):
            if isinstance(cause, AnswerTooLarge):
                advice = f"{cause}; raise models.providers.{self.provider_id}.max_answer_bytes if that is expected"
                message = f"provider {self.provider_id!r}, model {model!r}: {advice}"
                return ModelBadOutput(message, provider_id=self.provider_id, model_id=model)
            if isinstance(cause, OutboundRefused):
                advice = f"{cause}; set models.providers.{self.provider_id}.base_url to the endpoint itself"
                message = f"provider {self.provider_id!r}, model {model!r}: {advice}"
                return ModelBadRequest(message, provider_id=self.provider_id, model_id=model)
        return None

    def _quote(self, error: Exception) -> str:
        said = _said(error)
        for secret in self.secrets:
            said = said.replace(secret, "[secret]")
        said = _KEY_LIKE.sub("[secret]", " ".join(said.split()))
        return said if len(said) <= _MAX_QUOTE else said[:_MAX_QUOTE] + "…"


def _category(error: Exception) -> type[Exception]:
    """The library's class of the error, or the one that its status stands for where it was not told apart."""
    if type(error) is not ModelHTTPError:
        return type(error)
    status = error.status_code
    if status >= 500:
        return ModelServerError
    return _BY_STATUS.get(status, ModelRequestRejectedError)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _said(error: Exception) -> str:
    """The provider's own sentence, where its answer has one in the usual place."""
    body = error.body if isinstance(error, ModelAPIError) else None
    for place in (body, body.get("error") if isinstance(body, dict) else None):
        if isinstance(place, dict) and isinstance(place.get("message"), str):
            return str(place["message"])
    if isinstance(error, ModelHTTPError):
        return ""
    return str(error)
