"""Takes secrets out of what is logged: by the name of a key and by the look of a value."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

HIDDEN = "***"

# The last word of a key decides, so that `token_id`, `key_id` and `output_tokens` stay readable.
_SECRET_WORDS = frozenset(
    "token tokens secret secrets password passwd passphrase key keys".split()
    + "authorization credential credentials cookie".split()
)
# Keys that end in such a word and hold no secret.
_HARMLESS_KEYS = frozenset(
    "input_tokens output_tokens cached_tokens reasoning_tokens total_tokens max_tokens page_token".split()
    + "idempotency_key dedupe_key conversation_key message_key".split()
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_TOKEN = re.compile(r"\b(pw_[a-z]{1,16}_[0-9a-f]{8})[0-9a-f]*_[0-9A-Za-z-]+")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_PROVIDER_KEY = re.compile(r"\b(?:sk|rk|xox[abpr]|ghp|gho)[-_][A-Za-z0-9_-]{12,}")
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")
_PLAIN = (str, int, float, type(None))
_MAX_DEPTH = 6


@lru_cache(maxsize=1024)
def is_secret_key(key: str) -> bool:
    if key.lower() in _HARMLESS_KEYS:
        return False
    words = _WORDS.findall(key)
    return bool(words) and words[-1].lower() in _SECRET_WORDS


def redact_text(text: str) -> str:
    """`text` without what looks like a secret. Plain searches come first: nearly every text ends there."""
    if "pw_" in text:
        text = _TOKEN.sub(rf"\1…{HIDDEN}", text)
    if "earer" in text or "asic" in text or "EARER" in text or "ASIC" in text:
        text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    if "sk-" in text or "sk_" in text or "rk_" in text or "xox" in text or "gh" in text:
        text = _PROVIDER_KEY.sub(HIDDEN, text)
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\1{HIDDEN}", text)
    return text


def redact_fields(fields: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
    """`fields` with the values of secret keys hidden, also inside mappings and lists as deep as a log line goes."""
    return {
        str(key): HIDDEN if is_secret_key(str(key)) else _redact_inside(value, depth) for key, value in fields.items()
    }


def _redact_inside(value: Any, depth: int) -> Any:
    if isinstance(value, _PLAIN) or not isinstance(value, Mapping | list | tuple):
        return value
    if depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return redact_fields(value, depth + 1)
    return [_redact_inside(one, depth + 1) for one in value]
