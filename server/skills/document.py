"""`SKILL.md`: front matter in YAML, then instructions in Markdown."""

import re
import unicodedata
from dataclasses import dataclass

import yaml

from portway.rpc.errors import FieldViolation, InvalidInput
from portway.server.skills.types import MAX_INSTRUCTION_BYTES

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MAX_DESCRIPTION = 16_000
_FENCE = "---"
_MAX_FRONT_MATTER = 32 * 1024


@dataclass(frozen=True, slots=True)
class Document:
    """What a `SKILL.md` says. `name` is '' where it names none: the folder's name stands then."""

    name: str
    description: str
    version: str
    instructions: str


def read_document(content: bytes, where: str) -> Document:
    """Raises InvalidInput, naming `where` and what is wrong with it."""
    if len(content) > MAX_INSTRUCTION_BYTES:
        raise _wrong(where, f"it has {len(content)} bytes; {MAX_INSTRUCTION_BYTES} are allowed")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise _wrong(where, "it is not UTF-8 text") from error
    matter, body = _split(text, where)
    name, description = _text(matter, "name", where), _text(matter, "description", where)
    if name and not NAME.fullmatch(name):
        raise _wrong(where, f"the name {name[:80]!r} may hold letters, digits, - and _ only, 64 at most")
    if not description:
        raise _wrong(where, "its front matter has no description; say what the skill is for")
    return Document(name, description[:MAX_DESCRIPTION], _text(matter, "version", where)[:256], body.strip())


def write_document(document: Document) -> bytes:
    """The file for what `read_document` would read."""
    matter = {"name": document.name, "description": document.description}
    if document.version:
        matter["version"] = document.version
    front = yaml.safe_dump(matter, sort_keys=False, allow_unicode=True, width=10_000)
    return f"{_FENCE}\n{front}{_FENCE}\n\n{document.instructions.strip()}\n".encode()


def _split(text: str, where: str) -> tuple[dict[str, object], str]:
    lines = text.split("\n")
    if not lines or lines[0].strip() != _FENCE:
        raise _wrong(where, "it does not begin with front matter (a line of ---, then name and description)")
    end = next((number for number, line in enumerate(lines[1:], 1) if line.strip() == _FENCE), 0)
    if not end:
        raise _wrong(where, "its front matter is not closed by a line of ---")
    front = "\n".join(lines[1:end])
    if len(front) > _MAX_FRONT_MATTER:
        raise _wrong(where, f"its front matter is longer than {_MAX_FRONT_MATTER} characters")
    # Aliases could blow a few lines up to gigabytes, and a form has no use for them.
    if any(isinstance(token, yaml.AnchorToken | yaml.AliasToken) for token in _tokens(front, where)):
        raise _wrong(where, "its front matter uses anchors or aliases, which are not read")
    try:
        matter = yaml.safe_load(front)
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError, TypeError) as error:
        # Also what only looks like a number or a date: its reader raises what it likes.
        raise _wrong(where, "its front matter is not YAML") from error
    if not isinstance(matter, dict):
        raise _wrong(where, "its front matter is not a list of `key: value`")
    return matter, "\n".join(lines[end + 1 :])


def _tokens(front: str, where: str) -> list[object]:
    try:
        return list(yaml.scan(front, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise _wrong(where, "its front matter is not YAML") from error


def _text(matter: dict[str, object], key: str, where: str) -> str:
    value = matter.get(key, "")
    if value is None:
        return ""
    if isinstance(value, dict | list):
        raise _wrong(where, f"{key} in its front matter is not a text")
    text = str(value).strip()
    if any(unicodedata.category(one) in ("Cs", "Cc") and one not in "\n\t" for one in text):
        raise _wrong(where, f"{key} in its front matter holds characters that are no text")
    return text


def _wrong(where: str, description: str) -> InvalidInput:
    return InvalidInput(f"{where}: {description}", fields=[FieldViolation(where, description)])
