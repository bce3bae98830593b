"""Programs that write one JSON object a line."""

import json
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from portway.runtime.harness.failures import BAD_OUTPUT, excerpt
from portway.runtime.harness.runner import Reader
from portway.runtime.sdk import RunFailure, RunResult
from portway.runtime.sdk.types.convert import Json

_SHOWN = 200


class JsonReader(Reader):
    """`program` is its name for people."""

    program: str

    @abstractmethod
    def take_object(self, line: Json) -> Iterable[RunResult]:
        """One line. Types and fields that are not known are of a later version, and left alone."""

    def take(self, data: bytes) -> Iterable[RunResult]:
        try:
            line = json.loads(data)
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict):
            shown = excerpt(data[:_SHOWN].decode(errors="replace"))
            raise RunFailure(BAD_OUTPUT, f"{self.program} wrote a line that is no JSON object: {shown}")
        try:
            yield from self.take_object(line)
        except (AttributeError, KeyError, TypeError) as error:
            raise RunFailure(
                BAD_OUTPUT, f"{self.program} wrote a {line.get('type')!r} line of an unknown shape ({error})"
            ) from error


def text_of(content: Any) -> str:
    """The text of content as vendors write it: a text, or a list of blocks some of which are texts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(one.get("text", "")) for one in content if isinstance(one, dict) and "text" in one)
    return ""
