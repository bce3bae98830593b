"""Regular expressions of operators, looked for in the texts of strangers: the time grows with the text, and no faster.

RE2 has neither look-around nor back references; that is what makes its time bounded.
"""

from functools import lru_cache

import re2

from portway.rpc.errors import FieldViolation

_MEMORY_BYTES = 1024 * 1024


def violation_of(field: str, pattern: str) -> FieldViolation | None:
    """What is wrong with a pattern; nothing where it can be used."""
    if not pattern:
        return FieldViolation(field, "is empty, and would match everything")
    try:
        _compiled(pattern)
    except re2.error as error:
        return FieldViolation(
            field, f"{pattern!r} is not a regular expression that can be used ({_said(error)}); RE2 syntax is meant"
        )
    return None


def is_found(pattern: str, text: str) -> bool:
    """Whether the text contains it. A pattern that cannot be used is looked for as plain text."""
    try:
        return _compiled(pattern).search(text) is not None
    except re2.error:
        return pattern in text


def replaced(pattern: str, text: str, by: str) -> str:
    """The text with everything that matches replaced."""
    try:
        found: str = _compiled(pattern).sub(by, text)
        return found
    except re2.error:
        return text.replace(pattern, by)


@lru_cache(maxsize=1_024)
def _compiled(pattern: str) -> "re2._Regexp":
    options = re2.Options()
    options.max_mem = _MEMORY_BYTES
    # The answer tells what is wrong; the library's own log would tell it to nobody.
    options.log_errors = False
    return re2.compile(pattern, options)


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode() if isinstance(said, bytes) else str(said)
