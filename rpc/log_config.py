"""The section `log`: how every server writes its log lines."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from portway.rpc.configuration import load
from portway.rpc.telemetry import configure_logging


class LogForm(StrEnum):
    """AUTO: for people where standard error is a terminal, for machines where it is not."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least urgent lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What stands in the section."""

    format: LogForm = LogForm.AUTO
    level: LogLevel = LogLevel.INFO


def start_logging(service: str, file: Path | None, environment: Mapping[str, str], level: str | None = None) -> None:
    """Logs as configured; `level` is the flag, where one was given. Raises `ConfigurationError`."""
    config = load(LogConfig, "log", file=file, environment=environment, flags={"level": level})
    for_people = config.format is LogForm.CONSOLE or (config.format is LogForm.AUTO and sys.stderr.isatty())
    configure_logging(service, format="console" if for_people else "json", level=config.level)
