"""Programs that write one JSON object a line."""

import json
import sys
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from portway.runtime.harness.failures import BAD_OUTPUT, excerpt
from portway.runtime.harness.runner import Reader
from portway.runtime.sdk import RunFailure, RunResult
from portway.runtime.sdk.types.convert import Json

_SHOWN = 200
_MAX_WARNINGS = 20


class JsonReader(Reader):
    """`program` is its name for people."""

    program: str

    def __init__(self) -> None:
        super().__init__()
        # The answer is whole: what comes after it is read, and says nothing more.
        self.over = False
        self._warned: set[str] = set()

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
        if self.over:
            self.warn("wrote more after its result")
            return
        try:
            yield from self.take_object(line)
        except (AttributeError, KeyError, TypeError) as error:
            raise RunFailure(
                BAD_OUTPUT, f"{self.program} wrote a {line.get('type')!r} line of an unknown shape ({error})"
            ) from error

    def unknown(self, kind: object) -> None:
        """A line of a type that this version does not know."""
        self.warn(f"wrote a line of the unknown type {str(kind)[:80]!r}")

    def warn(self, what: str) -> None:
        """To the plugin's log, once for each kind of thing."""
        if what not in self._warned and len(self._warned) < _MAX_WARNINGS:
            self._warned.add(what)
            print(f"{self.program} {what}, which is ignored", file=sys.stderr, flush=True)


def text_of(content: Any) -> str:
    """The text of content as vendors write it: a text, or a list of blocks some of which are texts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(one.get("text", "")) for one in content if isinstance(one, dict) and "text" in one)
    return ""
