"""Server-sent events."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def data(body: Mapping[str, Any]) -> bytes:
    """An event without a name."""
    return b"data: " + compact(body) + b"\n\n"


def event(name: str, body: Mapping[str, Any]) -> bytes:
    """An event with a name."""
    return b"event: " + name.encode() + b"\n" + data(body)


def compact(body: Mapping[str, Any] | Sequence[Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
