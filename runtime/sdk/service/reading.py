"""Taking fields out of what a service sent, without trusting their types."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from portway.runtime.sdk.service.failures import bad_answer


def object_of(service: str, text: str) -> dict[str, Any]:
    """A JSON object, or the failure that a malformed one is."""
    try:
        value = json.loads(text)
    except ValueError:
        raise bad_answer(service, "an event is no JSON") from None
    if not isinstance(value, dict):
        raise bad_answer(service, "an event is JSON, but no object")
    return value


def text_at(value: Any, *path: str) -> str:
    """The text at a path of keys; empty where there is none."""
    found = _at(value, path)
    return found if isinstance(found, str) else ""


def number_at(value: Any, *path: str) -> int | None:
    """The whole number at a path of keys, also where it is written as a text; None where there is none."""
    found = _at(value, path)
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) < 16:
        return int(found)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None


def object_at(value: Any, *path: str) -> dict[str, Any]:
    """The object at a path of keys; empty where there is none."""
    found = _at(value, path)
    return found if isinstance(found, dict) else {}


def objects_at(value: Any, *path: str) -> Sequence[dict[str, Any]]:
    """The objects of the list at a path of keys."""
    found = _at(value, path)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value
