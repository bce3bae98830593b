"""One way to read settings: defaults < file < environment < flags, into frozen dataclasses.

The file is YAML with the sections below. `PORTWAY__SECTION__KEY[__KEY]` in the environment stands over the file. A key
that no dataclass has is refused with a suggestion, and no error shows a value: it could be a secret.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TypeVar

import yaml

SECTIONS = (
    "host",
    "runtime",
    "box",
    "web",
    "models",
    "outbound",
    "agents",
    "bindings",
    "schedules",
    "tools",
    "log",
    "telemetry",
    "retention",
)
ENVIRONMENT_PREFIX = "PORTWAY__"
EXIT_CODE = 78
"""What a server ends with when its settings are wrong: starting it again would not help."""

T = TypeVar("T")


class ConfigurationError(Exception):
    """The settings are wrong. The text says where, what, and what to do; it never holds a value."""


def read_file(path: Path | None) -> Mapping[str, object]:
    """The sections of a configuration file by name; nothing without a file."""
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}); check the path after --config") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigurationError(f"{place}: is not valid YAML ({getattr(error, 'problem', 'syntax')})") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: must hold sections, for example `host:`")
    for name in content:
        _refuse_unknown(str(name), SECTIONS, str(path), "section")
    return content


def load(
    shape: type[T],
    section: str,
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> T:
    """The section as `shape`, a frozen dataclass. `flags` with the value None were not given and change nothing."""
    raw = read_file(file).get(section)
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{file}: section `{section}` must hold keys and values")
    origin = str(file) if file else "configuration"
    merged = _deep_copy(raw)
    _apply_environment(merged, section, shape, environment or {})
    for name, value in (flags or {}).items():
        if value is not None:
            merged[name] = value
    return typing.cast(T, _build(shape, merged, section, origin))


def load_list(shape: type[T], section: str, *, file: Path | None = None) -> tuple[T, ...]:
    """A section that is a list, such as `agents`, with each item as `shape`."""
    raw = read_file(file).get(section)
    if raw is None:
        return ()
    if not isinstance(raw, list):
        raise ConfigurationError(f"{file}: section `{section}` must be a list")
    return tuple(
        typing.cast(T, _build(shape, item, f"{section}[{index}]", str(file))) for index, item in enumerate(raw)
    )


def check_environment(environment: Mapping[str, str]) -> None:
    """Refuse a variable with our prefix whose section does not exist."""
    for name in environment:
        if name.startswith(ENVIRONMENT_PREFIX):
            section = name[len(ENVIRONMENT_PREFIX) :].split("__")[0].lower()
            _refuse_unknown(section, SECTIONS, name, "section")


def _deep_copy(value: Mapping[object, object]) -> dict[str, object]:
    return {str(key): _deep_copy(item) if isinstance(item, dict) else item for key, item in value.items()}


def _apply_environment(merged: dict[str, object], section: str, shape: object, environment: Mapping[str, str]) -> None:
    prefix = f"{ENVIRONMENT_PREFIX}{section.upper()}__"
    for name in sorted(environment):
        if not name.startswith(prefix):
            continue
        path = [part.lower() for part in name[len(prefix) :].split("__")]
        target, kind = merged, shape
        for part in path[:-1]:
            kind = _child_kind(kind, part)
            inner = target.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigurationError(f"{name}: `{part}` already has a plain value in the file")
            target = inner
        target[path[-1]] = _from_text(environment[name], _child_kind(kind, path[-1]), name)


def _child_kind(kind: object, key: str) -> object:
    """The type beneath a key: of a dataclass's field, or of a mapping's values; `object` where nothing is known."""
    kind = _without_none(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return typing.get_type_hints(kind).get(key, object)
    if typing.get_origin(kind) in _MAPPINGS:
        return typing.get_args(kind)[1]
    return object


def _from_text(text: str, kind: object, place: str) -> object:
    kind = _without_none(kind)
    if kind in (str, Path) or (isinstance(kind, type) and issubclass(kind, Enum)):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{place}: must be a plain value, or YAML such as [a, b]") from error


_MAPPINGS = (dict, Mapping, typing.get_origin(Mapping[str, str]))
_SEQUENCES = (tuple, list, Sequence, typing.get_origin(Sequence[str]))


def _without_none(kind: object) -> object:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        inner = [part for part in typing.get_args(kind) if part is not type(None)]
        return inner[0] if len(inner) == 1 else object
    return kind


def _accepts_none(kind: object) -> bool:
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return kind is object or (union and type(None) in typing.get_args(kind))


def _build(kind: object, value: object, place: str, origin: str) -> object:
    if value is None and _accepts_none(kind):
        return None
    kind = _without_none(kind)
    if kind is object or kind is typing.Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _build_dataclass(kind, value, place, origin)
    shape = typing.get_origin(kind)
    if shape in _MAPPINGS:
        item_kind = typing.get_args(kind)[1]
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{origin}: `{place}` must hold keys and values")
        return {str(key): _build(item_kind, item, f"{place}.{key}", origin) for key, item in value.items()}
    if shape in _SEQUENCES:
        item_kind = typing.get_args(kind)[0]
        if not isinstance(value, list | tuple):
            raise ConfigurationError(f"{origin}: `{place}` must be a list")
        return tuple(_build(item_kind, item, f"{place}[{index}]", origin) for index, item in enumerate(value))
    return _plain(kind, value, place, origin)


def _build_dataclass(kind: type, value: object, place: str, origin: str) -> object:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{origin}: `{place}` must hold keys and values")
    fields = {item.name: item for item in dataclasses.fields(kind) if item.init}
    for key in value:
        _refuse_unknown(str(key), fields, f"{origin}: `{place}`", "key")
    hints = typing.get_type_hints(kind)
    built = {str(key): _build(hints[str(key)], item, f"{place}.{key}", origin) for key, item in value.items()}
    for name, item in fields.items():
        missing = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if missing and name not in built:
            raise ConfigurationError(f"{origin}: `{place}.{name}` is missing")
    try:
        return kind(**built)
    except ValueError as error:
        raise ConfigurationError(f"{origin}: `{place}`: {error}") from error


def _plain(kind: object, value: object, place: str, origin: str) -> object:
    if isinstance(kind, type) and issubclass(kind, Enum):
        choices = [str(member.value) for member in kind]
        if isinstance(value, kind):
            return value
        if str(value) not in choices:
            raise ConfigurationError(f"{origin}: `{place}` must be one of {', '.join(choices)}")
        return kind(str(value))
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    raise ConfigurationError(f"{origin}: `{place}` must be {names.get(typing.cast(type, kind), str(kind))}")


def _refuse_unknown(name: str, known: typing.Iterable[str], place: str, what: str) -> None:
    choices = list(known)
    if name in choices:
        return
    close = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(sorted(choices))}"
    raise ConfigurationError(f"{place}: unknown {what} `{name}`; {hint}")
