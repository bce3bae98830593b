"""Taking fields out of what a service sent, without trusting their types."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from portway.runtime.sdk.service.failures import bad_answer


def parse(text: str | bytes) -> Any:
    """JSON. Raises `ValueError` also for what is nested too deep, and for numbers that are none in JSON."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def whole(text: str) -> str:
    """Text in whole characters: halves that a service sent one after the other are joined, lone ones replaced."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def object_of(service: str, text: str) -> dict[str, Any]:
    """A JSON object, or the failure that a malformed one is."""
    try:
        value = parse(text)
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
