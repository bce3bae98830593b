"""Reads the fields of a manifest by type. Every wrong field is noted with file and path, so that all show at once."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from portway.runtime.plugins.types import Localized, Problem

E = TypeVar("E", bound=StrEnum)

MAX_TEXT = 16_000
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_DURATION = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_MAX_DEPTH = 32


class Notes:
    """What was found wrong in the files of one plugin."""

    def __init__(self, plugin: str) -> None:
        self.plugin = plugin
        self._problems: list[Problem] = []

    def error(self, location: str, message: str) -> None:
        self._problems.append(Problem(self.plugin, location, message))

    def warn(self, location: str, message: str) -> None:
        self._problems.append(Problem(self.plugin, location, message, warning=True))

    @property
    def failed(self) -> bool:
        return any(not problem.warning for problem in self._problems)

    def problems(self) -> Sequence[Problem]:
        return tuple(self._problems)


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean "x"?)`, or the list of what there is where nothing is near and the list is short."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f' (did you mean "{near[0]}"?)'
    return f" (known: {', '.join(names)})" if 0 < len(names) <= 12 else ""


class Fields:
    """A mapping in a manifest. Each reader takes a key; `finish` warns about keys that nobody took."""

    def __init__(self, file: str, values: Mapping[str, Any], notes: Notes, path: str = "") -> None:
        self._file = file
        self._values = values
        self._path = path
        self._taken: set[str] = set()
        self.notes = notes

    def location(self, key: str = "") -> str:
        path = ".".join(part for part in (self._path, key) if part)
        return f"{self._file}: {path}" if path else self._file

    def error(self, key: str, message: str) -> None:
        self.notes.error(self.location(key), message)

    def has(self, key: str) -> bool:
        return self._values.get(key) is not None

    def raw(self, key: str) -> Any:
        self._taken.add(key)
        return self._values.get(key)

    def keys(self) -> Sequence[str]:
        return tuple(self._values)

    def text(
        self,
        key: str,
        *,
        required: bool = False,
        default: str = "",
        pattern: str = "",
        form: str = "",
        longest: int = 256,
    ) -> str:
        """A string. `form` describes `pattern` to people."""
        value = self.raw(key)
        if value is None:
            if required:
                self.error(key, "is missing; add it")
            return default
        if isinstance(value, int | float) and not isinstance(value, bool):
            # `version: 1.0` is a number to YAML and a text to its author.
            value = str(value)
        if not isinstance(value, str):
            self.error(key, f"must be a text, not {_kind(value)}")
        elif len(value) > longest:
            self.error(key, f"has {len(value)} characters; {longest} are allowed")
        elif pattern and re.fullmatch(pattern, value) is None:
            self.error(key, f"{value!r} {form}")
        else:
            return value
        return default

    def flag(self, key: str, *, default: bool = False) -> bool:
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.error(key, f"must be true or false, not {_kind(value)}")
            return default
        return value

    def integer(self, key: str, *, default: int, low: int, high: int) -> int:
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self.error(key, f"must be a whole number, not {_kind(value)}")
        elif not low <= value <= high:
            self.error(key, f"is {value}; it must be from {low} to {high}")
        else:
            return value
        return default

    def number(self, key: str, *, default: float, low: float, high: float) -> float:
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.error(key, f"must be a number, not {_kind(value)}")
        elif not low <= value <= high:
            self.error(key, f"is {value}; it must be from {low:g} to {high:g}")
        else:
            return float(value)
        return default

    def seconds(self, key: str) -> float | None:
        """A span such as `90s`, `10m` or a number of seconds; None where it is not given."""
        value = self.raw(key)
        if value is None:
            return None
        match = _DURATION.fullmatch(str(value)) if not isinstance(value, bool) else None
        if match is None:
            self.error(key, f"{value!r} is no span of time; write it like 90s, 10m or 1h")
            return None
        return float(match["number"]) * _SECONDS[match["unit"]]

    def choice(self, key: str, kind: type[E], default: E) -> E:
        value = self.raw(key)
        if value is None:
            return default
        known = [one.value for one in kind if one.value]
        if value not in known:
            self.error(key, f"{value!r} is not known{suggestion(str(value), known)}")
            return default
        return kind(value)

    def texts(self, key: str, *, most: int = 200, longest: int = 1024) -> Sequence[str]:
        value = self.raw(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            self.error(key, f"must be a list of texts, not {_kind(value)}")
        elif len(value) > most or any(len(one) > longest for one in value):
            self.error(key, f"may have {most} entries of {longest} characters at most")
        else:
            return tuple(value)
        return ()

    def localized(self, key: str, *, required: bool = False) -> Localized:
        """A text, or a mapping of language tags to texts."""
        value = self.raw(key)
        if value is None:
            if required:
                self.error(key, "is missing; add a text, or texts by language")
            return {}
        if isinstance(value, str):
            value = {"en": value}
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            self.error(key, f"must be a text or texts by language, not {_kind(value)}")
            return {}
        for tag in value:
            if _LANGUAGE.fullmatch(str(tag)) is None:
                self.error(key, f"{tag!r} is no language tag; use one like en or zh-Hans")
        if any(len(text) > MAX_TEXT for text in value.values()) or len(value) > 64:
            self.error(key, f"may have 64 languages of {MAX_TEXT} characters at most")
            return {}
        return {str(tag): text for tag, text in value.items()}

    def section(self, key: str) -> "Fields":
        """A mapping inside this one; empty where it is missing."""
        value = self.raw(key)
        if value is not None and not isinstance(value, dict):
            self.error(key, f"must be a mapping, not {_kind(value)}")
            value = None
        return Fields(self._file, value or {}, self.notes, self._join(key))

    def sections(self, key: str, *, most: int) -> Iterator["Fields"]:
        """The mappings of a list."""
        value = self.raw(key)
        if value is None:
            return
        if not isinstance(value, list):
            self.error(key, f"must be a list, not {_kind(value)}")
            return
        if len(value) > most:
            self.error(key, f"has {len(value)} entries; {most} are allowed")
        for index, one in enumerate(value[:most]):
            place = f"{key}[{index}]"
            if isinstance(one, dict):
                yield Fields(self._file, one, self.notes, self._join(place))
            else:
                self.error(place, f"must be a mapping, not {_kind(one)}")

    def json(self, key: str) -> Any:
        """A value that JSON can hold; None where it is missing."""
        value = self.raw(key)
        if not _is_json(value):
            self.error(key, "holds a value that JSON does not know (a date, for example); put it in quotes")
            return None
        return value

    def json_object(self, key: str) -> Mapping[str, Any]:
        value = self.json(key)
        if value is not None and not isinstance(value, dict):
            self.error(key, f"must be a mapping, not {_kind(value)}")
            return {}
        return value or {}

    def finish(self) -> None:
        for key in self._values:
            if key not in self._taken:
                self.notes.warn(self.location(key), f"is not known and ignored{suggestion(key, self._taken)}")

    def _join(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false"}
    return "a number" if type(value) in (int, float) else names.get(type(value), type(value).__name__)


def _is_json(value: Any, depth: int = 0) -> bool:
    if depth > _MAX_DEPTH:
        return False
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(one, depth + 1) for key, one in value.items())
    if isinstance(value, list):
        return all(_is_json(one, depth + 1) for one in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | bool | int)
