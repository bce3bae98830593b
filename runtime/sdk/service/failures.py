"""What goes wrong between a runner and a service, as the codes of failed runs."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from portway.rpc.redaction import redact_text
from portway.runtime.sdk.session.failures import RunFailure

MAX_QUOTE = 300
MIN_SECRET = 4
_RETRYABLE = frozenset(
    {
        "service.rate_limited",
        "service.unavailable",
        "service.timeout",
        "service.bad_output",
        "service.conflict",
    }
)

_BY_STATUS = {
    400: "service.bad_request",
    401: "service.auth",
    402: "service.quota",
    403: "service.auth",
    404: "service.not_found",
    407: "service.auth",
    408: "service.timeout",
    409: "service.conflict",
    410: "service.not_found",
    412: "service.conflict",
    413: "service.too_large",
    423: "service.conflict",
    429: "service.rate_limited",
    504: "service.timeout",
}
# How vendors say in words that a filter refused, where their code says less.
_FILTERED = ("moderation", "sensitive", "violat", "违规", "敏感", "内容安全")
_TO_DO = {
    "service.auth": "check the credentials in the agent's configuration and what they may use",
    "service.quota": "its quota or balance is used up; raise it there",
    "service.not_found": "check base_url and the ids in the agent's configuration",
    "service.conflict": "something else goes on in the same conversation there; try again once that has ended",
    "service.rate_limited": "it takes no more requests for now; try again later",
    "service.unavailable": "it is down or overloaded; try again later",
    "service.timeout": "try again later, or raise the times in the agent's configuration",
    "service.too_large": "send less, or smaller files",
    "service.bad_request": "check the agent's configuration against what the application there expects",
    "service.content_filter": "its content filter refused; change what is asked",
}


class ServiceFailure(RunFailure):
    """A failed exchange. `status` is the HTTP status (0 where there was none), `vendor_code` the service's own name of
    the error, `detail` what it said about it; all without secrets."""

    def __init__(self, code: str, message: str, *, status: int = 0, vendor_code: str = "", detail: str = "") -> None:
        super().__init__(code, message, retryable=code in _RETRYABLE)
        self.status = status
        self.vendor_code = vendor_code
        self.detail = detail

    @property
    def code(self) -> str:
        return self.error.code


def refused(
    service: str,
    status: int,
    body: bytes,
    secrets: Iterable[str],
    known: Mapping[str, str] | None = None,
    pause: float | None = None,
) -> ServiceFailure:
    """What an answer with an error status means. `known` has the service's own codes, which say more than a status;
    `pause` is how many seconds it wants to be left alone."""
    vendor_code, text = _said(body)
    secrets = tuple(secrets)
    vendor_code = without_secrets(vendor_code, secrets)[:MAX_QUOTE]
    detail = without_secrets(text, secrets)[:MAX_QUOTE]
    code = code_of(vendor_code, known or {}) or _of_status(status)
    named = f"{service} answered with status {status}" + (f" ({vendor_code})" if vendor_code else "")
    said = f": {detail}" if detail else ""
    asked = f"; it asks for a pause of {pause:g} s" if pause else ""
    to_do = _TO_DO.get(code, "check base_url in the agent's configuration")
    message = f"{named}{said}{asked}; {to_do}"
    return ServiceFailure(code, message, status=status, vendor_code=vendor_code, detail=detail)


def reported(service: str, code: str, vendor_code: object, text: object, secrets: Iterable[str]) -> ServiceFailure:
    """An error that the service tells inside an answer. `code` is what it means, unless its words say that a filter
    refused."""
    secrets = tuple(secrets)
    told = without_secrets(str(vendor_code or ""), secrets)[:MAX_QUOTE]
    detail = without_secrets(str(text or ""), secrets)[:MAX_QUOTE]
    if code == "service.failed" and any(word in detail.lower() for word in _FILTERED):
        code = "service.content_filter"
    named = f"{service} reported an error" + (f" ({told})" if told else "")
    to_do = _TO_DO.get(code, "look at the application there")
    message = f"{named}: {detail or 'it says no more'}; {to_do}"
    return ServiceFailure(code, message, vendor_code=told, detail=detail)


def code_of(vendor_code: str, known: Mapping[str, str]) -> str:
    """What a vendor's own code means, also by its family (`Throttling` of `Throttling.User`); empty if unknown."""
    return known.get(vendor_code) or known.get(vendor_code.partition(".")[0], "")


def _of_status(status: int) -> str:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return "service.unavailable"
    return "service.bad_request" if status >= 400 else "service.bad_output"


def bad_answer(service: str, what: str) -> ServiceFailure:
    """An answer that is not what the service's documentation promises."""
    message = f"{service} sent an answer that cannot be used: {what}; check base_url, or look at the service's logs"
    return ServiceFailure("service.bad_output", message)


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """One line without what must not be repeated, however the service quotes it."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= MIN_SECRET:
            text = text.replace(secret, "***")
    return " ".join(redact_text(text).split())


def _said(body: bytes) -> tuple[str, str]:
    """Code and text of an error document; nothing of a page in HTML, which tells a person little."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        text = body[:2000].decode(errors="replace").strip()
        return "", "" if text.startswith("<") else text
    if not isinstance(document, dict):
        return "", ""
    inner = document.get("error")
    if isinstance(inner, dict):
        document = {**document, **inner}
    code = next((document[key] for key in ("code", "errorCode") if document.get(key)), "")
    keys = ("message", "msg", "errorMsg", "detail", "error", "hint")
    text = next((document[key] for key in keys if isinstance(document.get(key), str) and document[key]), "")
    if not text and document.get("detail"):
        text = json.dumps(document["detail"], ensure_ascii=False)
    return (str(code) if isinstance(code, str | int) else ""), text
