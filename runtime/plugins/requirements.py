"""What a Python plugin needs besides the SDK: packages by name, from its manifest or from a `requirements.txt` in its
folder, and the wheels that it brings along.

Only names, versions and hashes are read. Where packages come from is the operator's choice, so addresses, paths and
options of an installer are refused.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from portway.runtime.plugins.fields import Fields
from portway.runtime.plugins.types import Package, Requirements

FILE = "requirements.txt"
WHEELS = "wheels"
MAX_PACKAGES = 500
MAX_FILE_BYTES = 1024 * 1024
MAX_WHEELS = 500
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})$")
_OPTIONS = "only packages by name stand here; where they come from is set by the operator under runtime.environments"


class UnusableLine(Exception):
    """The message says what is wrong with it and what to do."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of text and where it stands, for people."""

    place: str
    text: str


def read_requirements(fields: Fields, folder: Path) -> Requirements | None:
    """What `execute.requirements` says: a list, or the name of a file in the folder; a `requirements.txt` in the folder
    is used without being named. None where the plugin needs nothing."""
    given = fields.raw("requirements")
    if given is None:
        given = FILE if (folder / FILE).is_file() else []
    if isinstance(given, str):
        lines = _lines_of_file(fields, folder, given)
    elif isinstance(given, list) and all(isinstance(one, str) for one in given):
        lines = [_Line(f"requirements[{index}]", text) for index, text in enumerate(given)]
    else:
        fields.error("requirements", "must be a list of packages, or the name of a file in the plugin's folder")
        return None
    packages = tuple(_packages(fields, lines))
    if not packages:
        return None
    _check_hashes(fields, packages)
    return Requirements(tuple(sorted(packages, key=lambda one: one.text)), _wheels(fields, folder))


def _lines_of_file(fields: Fields, folder: Path, name: str) -> Sequence[_Line]:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        fields.error("requirements", f"{name!r} lies outside the plugin's folder")
        return []
    try:
        raw = path.read_bytes()
        text = raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        fields.error("requirements", f"{name!r} cannot be read: {why}")
        return []
    if len(raw) > MAX_FILE_BYTES:
        fields.error("requirements", f"{name!r} has {len(raw):,} bytes; {MAX_FILE_BYTES:,} are allowed")
        return []
    return list(_logical_lines(name, text))


def _logical_lines(name: str, text: str) -> Iterator[_Line]:
    """Without comments; a line that ends with a backslash goes on in the next."""
    begun, first = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*$", "", raw)
        first = first if begun else number
        if line.rstrip().endswith("\\"):
            begun += line.rstrip()[:-1] + " "
            continue
        whole, begun = (begun + line).strip(), ""
        if whole:
            yield _Line(f"requirements ({name}, line {first})", whole)
    if begun.strip():
        yield _Line(f"requirements ({name}, line {first})", begun.strip())


def _packages(fields: Fields, lines: Sequence[_Line]) -> Iterator[Package]:
    if len(lines) > MAX_PACKAGES:
        fields.error("requirements", f"names {len(lines)} packages; {MAX_PACKAGES} are allowed")
    for line in lines[:MAX_PACKAGES]:
        try:
            yield _package(line.text)
        except UnusableLine as error:
            fields.error(line.place, str(error))


def _package(text: str) -> Package:
    words = text.split()
    hashes = [word for word in words if word.startswith("--hash")]
    if any(word.startswith("-") and word not in hashes for word in words):
        raise UnusableLine(f"{text!r}: {_OPTIONS}")
    if wrong := next((word for word in hashes if _HASH.match(word) is None), None):
        raise UnusableLine(f"{wrong!r} is no hash; write --hash=sha256: and 64 hexadecimal digits")
    try:
        wanted = Requirement(" ".join(word for word in words if word not in hashes))
    except InvalidRequirement as error:
        raise UnusableLine(f"{text!r} is no requirement ({str(error).splitlines()[0]}); write name==version") from None
    if wanted.url is not None:
        raise UnusableLine(f"{wanted.name}: {_OPTIONS}; put its wheel into the folder {WHEELS}/")
    return Package(canonicalize_name(wanted.name), str(wanted), tuple(sorted(hashes)))


def _check_hashes(fields: Fields, packages: Sequence[Package]) -> None:
    """With one hash, everything must have one: otherwise the others would come unchecked."""
    bare = [one.text for one in packages if not one.hashes]
    if bare and len(bare) < len(packages):
        fields.error("requirements", f"{bare[0]} has no --hash, and others have; give all of them hashes, or none")


def _wheels(fields: Fields, folder: Path) -> Sequence[Path]:
    wheels = sorted((folder / WHEELS).glob("*.whl")) if (folder / WHEELS).is_dir() else []
    if len(wheels) > MAX_WHEELS:
        fields.error("requirements", f"{WHEELS}/ has {len(wheels)} wheels; {MAX_WHEELS} are allowed")
        return ()
    for wheel in wheels:
        if not wheel.resolve().is_relative_to(folder.resolve()) or not wheel.is_file():
            fields.error("requirements", f"{WHEELS}/{wheel.name} is no file of the plugin's folder; copy it there")
    return tuple(wheels)
