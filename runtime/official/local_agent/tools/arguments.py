"""What a model wrote as the arguments of a call: a JSON object, or nothing that could be called."""

import json
from typing import Any, NoReturn

MAX_DEPTH = 32


class BadArguments(ValueError):
    """The text tells the model what to write instead."""


def read_arguments(text: str) -> dict[str, Any]:
    """Raises `BadArguments`. Halves of characters become U+FFFD, because nothing takes them."""
    try:
        value = json.loads(text or "{}", parse_constant=_no_number)
    except RecursionError:
        raise BadArguments(f"the arguments are nested too deeply; at most {MAX_DEPTH} levels") from None
    except ValueError:
        raise BadArguments("the arguments are no JSON object; send them again as one") from None
    if not isinstance(value, dict):
        raise BadArguments("the arguments are no JSON object; send them again as one")
    whole: dict[str, Any] = _clean(value, MAX_DEPTH)
    return whole


def _clean(value: Any, depth: int) -> Any:
    if depth == 0:
        raise BadArguments(f"the arguments are nested too deeply; at most {MAX_DEPTH} levels")
    match value:
        case str():
            return whole_characters(value)
        case dict():
            return {whole_characters(name): _clean(one, depth - 1) for name, one in value.items()}
        case list():
            return [_clean(one, depth - 1) for one in value]
        case int() if abs(value) > 2**1000:
            raise BadArguments("a number in the arguments is too large")
        case _:
            return value


def whole_characters(text: str) -> str:
    """Text in which surrogates are joined in pairs, and replaced where the other half is missing."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
