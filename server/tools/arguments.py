"""Reads the arguments of a call, and says in one sentence what is wrong with them."""

from __future__ import annotations

import difflib

from portway.rpc.errors import InvalidInput
from portway.server.tools.types import JsonObject

MAX_TEXT_BYTES = 1 << 20


class Arguments:
    """The arguments of one call. Ask for each field once, then call `end`: what was not asked for is refused."""

    def __init__(self, tool: str, given: JsonObject) -> None:
        self._tool = tool
        self._given = given
        self._known: list[str] = []

    def text(self, name: str, *, may_be_empty: bool = False) -> str:
        """A text that must be given."""
        if self._take(name) is None:
            raise self._wrong(name, "it is required")
        value = self.optional_text(name)
        if not value and not may_be_empty:
            raise self._wrong(name, "it must not be empty")
        return value

    def optional_text(self, name: str, default: str = "") -> str:
        """A text, or the default."""
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(name, "it must be a text")
        if len(value.encode()) > MAX_TEXT_BYTES:
            raise self._wrong(name, f"it must have at most {MAX_TEXT_BYTES} bytes")
        return value

    def flag(self, name: str) -> bool:
        """True or false; false if it is not given."""
        value = self._take(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, "it must be true or false")
        return bool(value)

    def whole(self, name: str, default: int, lowest: int, highest: int) -> int:
        """A whole number within bounds, or the default."""
        value = self.optional_number(name, lowest, highest)
        if value is not None and not value.is_integer():
            raise self._wrong(name, "it must be a whole number")
        return default if value is None else int(value)

    def optional_number(self, name: str, lowest: float, highest: float) -> float | None:
        """A number within bounds, if it is given."""
        value = self._take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, "it must be a number")
        if not lowest <= value <= highest:
            raise self._wrong(name, f"it must be between {lowest:g} and {highest:g}")
        return float(value)

    def end(self) -> None:
        """Refuses arguments that the tool does not have."""
        for name in self._given:
            if name not in self._known:
                near = difflib.get_close_matches(name, self._known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(self._known)}"
                raise self._wrong(name, f"there is no such argument; {hint}")

    def _take(self, name: str) -> object:
        if name not in self._known:
            self._known.append(name)
        return self._given.get(name)

    def _wrong(self, name: str, why: str) -> InvalidInput:
        return InvalidInput.field(f"arguments.{name}", f"{why} (tool {self._tool!r})")
