"""Reads a configuration with messages for the operator. Everything raises `RunFailure` that names the field."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from portway.runtime.sdk import RunFailure

MISCONFIGURED = "runner.error"


class Config:
    """The host checks a configuration when it is saved; it may be older than the runner that reads it here."""

    def __init__(self, values: Mapping[str, Any], fields: Sequence[str]) -> None:
        self._values = values
        for name in sorted(values.keys() - set(fields)):
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(fields)}"
            raise wrong(name, f"is not a field of this runner; {hint}")

    def raw(self, name: str) -> Any:
        """The value as it is; None where there is none."""
        value = self._values.get(name)
        return None if value == "" else value

    def number(self, name: str, default: float | None, least: float, most: float) -> float | None:
        value = self.raw(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise wrong(name, f"must be a number from {least:,g} to {most:,g}")
        return float(value)

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        value = self.number(name, default, least, most)
        if value is None or value != int(value):
            raise wrong(name, f"must be a whole number from {least:,} to {most:,}")
        return int(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise wrong(name, "must be true or false")
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of `choices`; the first one is the default."""
        value = self.raw(name)
        if value is None:
            return choices[0]
        if value not in choices:
            raise wrong(name, f"must be one of {', '.join(choices)}")
        return str(value)

    def names(self, name: str) -> Sequence[str]:
        value = self.raw(name) or ()
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise wrong(name, "must be a list of texts")
        return tuple(value)


def wrong(name: str, text: str) -> RunFailure:
    return RunFailure(MISCONFIGURED, f"config.{name} {text}; correct the agent's configuration")
