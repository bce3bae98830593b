"""An agent's configuration of a runner that asks a service, read with messages for the operator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from portway.runtime.sdk.service.reading import parse
from portway.runtime.sdk.session.failures import RunFailure

MISCONFIGURED = "service.misconfigured"
MAX_ANSWER_BYTES = 32 * 1024 * 1024
MEBIBYTE = 1024 * 1024


class Options:
    """Typed reading of a configuration. Everything raises `RunFailure` that names the field."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    def text(self, name: str, default: str | None = None) -> str:
        """A text; required where there is no default."""
        value = self._config.get(name)
        if value is None or value == "":
            if default is None:
                raise _wrong(name, "is required")
            return default
        if not isinstance(value, str):
            raise _wrong(name, "must be a text")
        return value.strip()

    def header(self, name: str, default: str | None = None) -> str:
        """A text that goes into a header."""
        value = self.text(name, default)
        if not value.isascii() or not all(character.isprintable() for character in value):
            raise _wrong(name, "must be printable ASCII, because it is sent in a header")
        return value

    def number(self, name: str, default: float, *, least: float = 0, most: float = 86_400) -> float:
        value = self._config.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise _wrong(name, f"must be a number from {least:g} to {most:g}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._config.get(name)
        if value is None or value == "":
            return default
        if not isinstance(value, bool):
            raise _wrong(name, "must be true or false")
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of `choices`; the first one is the default."""
        value = self.text(name, choices[0])
        if value not in choices:
            raise _wrong(name, f"must be one of {', '.join(choices)}")
        return value

    def document(self, name: str) -> dict[str, Any]:
        """A JSON object, written as a text."""
        text = self.text(name, "")
        if not text:
            return {}
        try:
            value = parse(text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise _wrong(name, 'must be a JSON object, such as {"name": "value"}')
        return value


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Where a service is and how long it may take: seconds to connect, to its first byte, of silence, and in all."""

    base_url: str
    private_addresses: bool = False
    connect_seconds: float = 10.0
    first_byte_seconds: float = 120.0
    read_seconds: float = 120.0
    total_seconds: float = 600.0
    max_file_bytes: int = 15 * MEBIBYTE
    max_answer_bytes: int = MAX_ANSWER_BYTES


def service_options(options: Options, default_url: str = "", *, field: str = "base_url") -> ServiceOptions:
    """What all such runners have in their configuration."""
    read_seconds = options.number("read_seconds", 120, least=0.1)
    return ServiceOptions(
        base_url=_url(options.text(field, default_url or None), field),
        private_addresses=options.flag("private_addresses", False),
        connect_seconds=options.number("connect_seconds", 10, least=0.1, most=600),
        first_byte_seconds=options.number("first_byte_seconds", read_seconds, least=0.1),
        read_seconds=read_seconds,
        total_seconds=options.number("total_seconds", 600, least=0.1),
        max_file_bytes=int(options.number("max_file_mb", 15, most=64) * MEBIBYTE),
    )


def _url(text: str, field: str) -> str:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise _wrong(field, "is no URL") from None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise _wrong(field, "must begin with https:// or http:// and name a host")
    if parts.username or parts.password:
        raise _wrong(field, "must not hold a user or a password; there are fields for them")
    if parts.fragment or (parts.query and field == "base_url"):
        raise _wrong(field, "must not hold a ? or a #; there are fields for what is sent")
    return text.rstrip("/")


def _wrong(name: str, text: str) -> RunFailure:
    return RunFailure(MISCONFIGURED, f"config.{name} {text}; correct the agent's configuration")
