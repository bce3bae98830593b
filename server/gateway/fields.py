"""Reading what a program sends: JSON of strangers, each field with its path."""

import base64
import binascii
import json
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from portway.rpc.errors import InvalidInput
from portway.server.models.types import ImagePart

Json = Mapping[str, Any]
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
MAX_PICTURE_BYTES = 10 * 1024 * 1024


def wrong(path: str, text: str) -> InvalidInput:
    return InvalidInput.field(path, text)


def an_object(value: object, path: str) -> Json:
    if not isinstance(value, Mapping):
        raise wrong(path, "must be an object")
    return value


def a_list(value: object, path: str) -> Sequence[Any]:
    """An empty one where it is missing."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise wrong(path, "must be a list")
    return value


def objects(value: object, path: str) -> Iterator[tuple[str, Json]]:
    """The objects of a list with their paths."""
    for index, one in enumerate(a_list(value, path)):
        yield f"{path}[{index}]", an_object(one, f"{path}[{index}]")


def text(source: Json, name: str, path: str = "", default: str | None = None) -> str:
    """A text; required where there is no default."""
    value = source.get(name)
    where = f"{path}.{name}" if path else name
    if value is None:
        if default is None:
            raise wrong(where, "is required")
        return default
    if not isinstance(value, str):
        raise wrong(where, "must be a text")
    return value


def of_the_vendor(path: str, kind: object) -> InvalidInput:
    """What is said of a tool that the vendor's own servers would run, or that only its own models know."""
    return wrong(
        f"{path}.type",
        f"{str(kind)[:60]!r} is a tool of the vendor's own, which this gateway cannot run; leave it out, or declare a "
        "tool with a schema that the program runs itself",
    )


def number(source: Json, name: str, low: float, high: float) -> float | None:
    value = source.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise wrong(name, f"must be a number from {low:g} to {high:g}")
    return float(value)


def count(source: Json, *names: str) -> int | None:
    """A whole number above 0, under the first of its names that is there."""
    for name in names:
        value = source.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise wrong(name, "must be a whole number above 0")
        return value
    return None


def flag(source: Json, name: str) -> bool | None:
    value = source.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong(name, "must be true or false")
    return value


def stops(value: object, path: str) -> tuple[str, ...]:
    """One text or a list of them."""
    if isinstance(value, str):
        return (value,)
    found = a_list(value, path)
    if not all(isinstance(one, str) for one in found):
        raise wrong(path, "must be texts")
    return tuple(found)


def picture_of_url(url: str, path: str) -> ImagePart:
    """A picture in a `data:` URL; the gateway fetches nothing for a program."""
    head, _, data = url.partition(",")
    kind, _, encoding = head.removeprefix("data:").partition(";")
    if not head.startswith("data:") or encoding != "base64":
        raise wrong(path, "must be a data: URL in base64; the gateway fetches no addresses")
    return picture(kind, data, path)


def picture(kind: str, data: str, path: str) -> ImagePart:
    if kind not in _PICTURES:
        raise wrong(path, f"{kind!r} is no picture that models take; there are {', '.join(_PICTURES)}")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise wrong(path, "is no base64") from None
    if len(raw) > MAX_PICTURE_BYTES:
        raise wrong(path, f"has {len(raw)} bytes, too many for a model")
    return ImagePart(raw, kind)


def json_text(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def base64_floats(values: Iterable[float]) -> str:
    """Numbers of four bytes each, the lowest byte first."""
    found = array("f", values)
    if sys.byteorder == "big":
        found.byteswap()
    return base64.b64encode(found.tobytes()).decode()
