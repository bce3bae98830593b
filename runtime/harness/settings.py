"""What every harness is configured with, read strictly: a wrong field fails the run and names itself."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from portway.runtime.harness.failures import CONFIG
from portway.runtime.sdk import RunContext, RunFailure

MAX_SECONDS = 86_400.0
MAX_DAYS = 365.0
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")


class Where(Enum):
    """Where the program runs."""

    BOX = "box"
    MACHINE = "machine"


@dataclass(frozen=True, slots=True)
class HarnessSettings:
    """`command` is the program and its first arguments; `environment` is added to the few variables that it gets.
    An empty `working_directory` is the one that is remembered, or the place's own. `keep_days` is how long a session
    of the program is gone back to. `attached_files`: those of the message are placed; `outbox` is where files for
    people are looked for, empty for a folder of the run."""

    where: Where
    command: Sequence[str]
    arguments: Sequence[str]
    working_directory: str
    timeout: float
    environment: Mapping[str, str]
    keep_days: float
    attached_files: bool
    outbox: str


def read_settings(ctx: RunContext, default_command: Sequence[str]) -> HarnessSettings:
    """Raises `RunFailure` (`harness.config`)."""
    config = ctx.config
    return HarnessSettings(
        where=Where(choice(config, "where", [one.value for one in Where])),
        command=words(config, "command") or tuple(default_command),
        arguments=words(config, "arguments"),
        working_directory=_directory(config, "working_directory"),
        timeout=number(config, "timeout_seconds", 600.0, MAX_SECONDS),
        environment=_environment(config),
        keep_days=number(config, "session_days", 7.0, MAX_DAYS),
        attached_files=flag(config, "attached_files", True),
        outbox=_directory(config, "outbox"),
    )


def text(config: Mapping[str, Any], name: str, default: str = "") -> str:
    value = config.get(name)
    if value is None or value == "":
        return default
    if not isinstance(value, str) or "\0" in value:
        raise wrong(name, "must be a text")
    return value


def choice(config: Mapping[str, Any], name: str, allowed: Sequence[str], default: str = "") -> str:
    """One of `allowed`; the first of them if nothing is said and there is no other default."""
    value = text(config, name, default or allowed[0])
    if value not in allowed:
        raise wrong(name, f"must be one of {', '.join(allowed)}")
    return value


def number(config: Mapping[str, Any], name: str, default: float, most: float) -> float:
    value = config.get(name)
    if value is None or value == "":
        return float(default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise wrong(name, f"must be a number above 0 and at most {most:g}")
    return float(value)


def whole(config: Mapping[str, Any], name: str, default: int, most: int) -> int:
    """A number of things, at least one. Numbers of a configuration have no other form than that with a point."""
    value = number(config, name, default, most)
    if not value.is_integer():
        raise wrong(name, f"must be a whole number, 1 to {most}")
    return int(value)


def words(config: Mapping[str, Any], name: str) -> Sequence[str]:
    """One text a line, or a JSON list of texts. No shell takes them apart, so nothing else in them is special."""
    value = text(config, name)
    if not value.lstrip().startswith("["):
        return tuple(line for line in value.splitlines() if line.strip())
    try:
        listed = json.loads(value)
    except ValueError:
        listed = None
    if not isinstance(listed, list) or not all(isinstance(one, str) and "\0" not in one for one in listed):
        raise wrong(name, "must have one text a line, or be a JSON list of texts")
    return tuple(listed)


def flag(config: Mapping[str, Any], name: str, default: bool) -> bool:
    value = config.get(name)
    if value is None or value == "":
        return default
    if not isinstance(value, bool):
        raise wrong(name, "must be true or false")
    return value


def wrong(name: str, what: str) -> RunFailure:
    return RunFailure(CONFIG, f"config.{name} of the agent {what}; correct it")


def _directory(config: Mapping[str, Any], name: str) -> str:
    value = text(config, name)
    if value and not value.startswith("/"):
        raise wrong(name, "must be an absolute path")
    return value


def _environment(config: Mapping[str, Any]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for line in text(config, "environment").splitlines():
        name, equals, value = line.partition("=")
        if not line.strip():
            continue
        if not equals or not _NAME.fullmatch(name) or name.startswith("PORTWAY"):
            raise wrong("environment", f"has the line {name[:50]!r}: write NAME=VALUE, without names of Portway's own")
        found[name] = value
    return found
