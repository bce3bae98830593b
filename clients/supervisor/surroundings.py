"""What of the environment of `portway up` each part is given: the usual, its own settings, and what those name."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from portway.rpc.configuration import ENVIRONMENT_PREFIX, SECTIONS, read_file

_USUAL = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "NO_COLOR"),
        *("LD_LIBRARY_PATH", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    )
)
_USUAL_PREFIXES = ("LC_", "PYTHON", "GRPC_", "COVERAGE_", "OTEL_")
_OF_PART = {
    # How libraries of the host find a database and a proxy.
    "host": ("PG", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    # How a box that is not root's asks for a control group of its own.
    "box": ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
}


def environment_of(part: str, sections: tuple[str, ...], whole: Mapping[str, str], file: Path | None) -> dict[str, str]:
    """A secret that is there for one part, or for no part at all, is in the environment of no other one.

    Raises `ConfigurationError` for a file that cannot be read.
    """
    named = set(_named(part, whole, file))
    prefixes = (*_USUAL_PREFIXES, *_OF_PART.get(part, ()))
    return {
        name: value
        for name, value in whole.items()
        if name in _USUAL or name in named or name.startswith(prefixes) or _is_setting(name, sections)
    }


def _is_setting(name: str, sections: tuple[str, ...]) -> bool:
    if not name.startswith(ENVIRONMENT_PREFIX):
        return False
    section = name[len(ENVIRONMENT_PREFIX) :].split("__")[0].lower()
    # A section that nobody knows is a typing error: every part says so.
    return section in sections or section not in SECTIONS


def _named(part: str, whole: Mapping[str, str], file: Path | None) -> Iterator[str]:
    """Variables that the settings of a part name: of the keys of providers, and of what plugins are granted."""
    content = read_file(file)
    if part == "host":
        yield from _texts_under("api_key_env", content.get("models"))
        yield from (value for name, value in whole.items() if name.endswith("__API_KEY_ENV"))
    if part == "runtime":
        runtime = content.get("runtime")
        yield from _texts(runtime.get("grants") if isinstance(runtime, dict) else None)
        for name, value in whole.items():
            if name.startswith(f"{ENVIRONMENT_PREFIX}RUNTIME__GRANTS"):
                yield from _texts(_parsed(value))


def _texts_under(key: str, value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key and isinstance(inner, str):
                yield inner
            else:
                yield from _texts_under(key, inner)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _parsed(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        # The runtime says what is wrong with it.
        return None
