"""What goes wrong between a runner and a service, as the codes of failed runs."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from portway.rpc.redaction import redact_text
from portway.runtime.sdk.session.failures import RunFailure

MAX_QUOTE = 300
MIN_SECRET = 4
_RETRYABLE = frozenset({"service.rate_limited", "service.unavailable", "service.timeout", "service.bad_output"})

_BY_STATUS = {
    400: "service.bad_request",
    401: "service.auth",
    402: "service.quota",
    403: "service.auth",
    404: "service.not_found",
    408: "service.timeout",
    413: "service.too_large",
    415: "service.bad_request",
    422: "service.bad_request",
    429: "service.rate_limited",
    504: "service.timeout",
}
_TO_DO = {
    "service.auth": "check the credentials in the agent's configuration and what they may use",
    "service.quota": "its quota or balance is used up; raise it there",
    "service.not_found": "check base_url and the ids in the agent's configuration",
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
    service: str, status: int, body: bytes, secrets: Iterable[str], known: Mapping[str, str] | None = None
) -> ServiceFailure:
    """What an answer with an error status means. `known` has the service's own codes, which say more than a status."""
    vendor_code, text = _said(body)
    detail = without_secrets(text, secrets)[:MAX_QUOTE]
    code = (known or {}).get(vendor_code) or _BY_STATUS.get(status, "")
    if not code:
        code = "service.unavailable" if status >= 500 else "service.bad_output"
    named = f"{service} answered with status {status}" + (f" ({vendor_code})" if vendor_code else "")
    said = f": {detail}" if detail else ""
    to_do = _TO_DO.get(code, "check base_url in the agent's configuration")
    return ServiceFailure(code, f"{named}{said}; {to_do}", status=status, vendor_code=vendor_code, detail=detail)


def reported(service: str, code: str, vendor_code: object, text: object, secrets: Iterable[str]) -> ServiceFailure:
    """An error that the service tells inside an answer."""
    detail = without_secrets(str(text or ""), secrets)[:MAX_QUOTE]
    named = f"{service} reported an error" + (f" ({vendor_code})" if vendor_code else "")
    to_do = _TO_DO.get(code, "look at the application there")
    message = f"{named}: {detail or 'it says no more'}; {to_do}"
    return ServiceFailure(code, message, vendor_code=str(vendor_code or ""), detail=detail)


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
    except ValueError:
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
