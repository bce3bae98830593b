"""Takes secrets out of what is logged: by the name of a key and by the look of a value."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

HIDDEN = "***"

# The last word of a key decides, so that `token_id`, `key_id` and `output_tokens` stay readable.
_SECRET_WORDS = frozenset(
    (
        "token tokens secret secrets password passwd passphrase key keys authorization credential credentials cookie"
    ).split()
)
# Keys that end in such a word and hold no secret.
_HARMLESS_KEYS = frozenset(
    (
        "input_tokens output_tokens cached_tokens reasoning_tokens total_tokens max_tokens page_token"
        " idempotency_key dedupe_key conversation_key message_key"
    ).split()
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_TOKEN = re.compile(r"\b(pw_[a-z]{1,16}_[0-9a-f]{8})[0-9a-f]*_[0-9A-Za-z-]+")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")
_PROVIDER_KEY = re.compile(r"\b(sk|rk|xox[abpr]|ghp|gho)[-_][A-Za-z0-9_-]{12,}")
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")
_MARKS = ("pw_", "earer", "EARER", "asic ", "sk-", "sk_", "rk_", "xox", "gh", "://")
_MAX_DEPTH = 6


@lru_cache(maxsize=1024)
def is_secret_key(key: str) -> bool:
    if key.lower() in _HARMLESS_KEYS:
        return False
    words = _WORDS.findall(key)
    return bool(words) and words[-1].lower() in _SECRET_WORDS


def redact_text(text: str) -> str:
    if not any(mark in text for mark in _MARKS):
        return text
    text = _TOKEN.sub(rf"\1…{HIDDEN}", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    text = _PROVIDER_KEY.sub(HIDDEN, text)
    return _URL_PASSWORD.sub(rf"\1{HIDDEN}", text)


def redact(value: Any, depth: int = 0) -> Any:
    """`value` without secrets: mappings and lists are copied only as deep as a log line sensibly goes."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, int | float | None):
        return value
    if depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): redact_field(str(key), one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(one, depth + 1) for one in value]
    return redact_text(str(value))


def redact_field(key: str, value: Any, depth: int = 0) -> Any:
    if is_secret_key(key) and not isinstance(value, bool | None):
        return HIDDEN
    return redact(value, depth)
