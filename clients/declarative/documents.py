"""Files with declarations: YAML documents, each a `kind` and the fields of its message."""

import difflib
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from yaml.constructor import SafeConstructor

from portway.clients.declarative.kinds import KINDS, Kind
from portway.rpc.errors import InvalidInput

MASK = "********"
_REFERENCE = re.compile(r"\$\{(env|file):([^}]+)\}")
_PLAIN_FILE = "file:"

Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One declaration. `wanted` has references where the file has them; `lines` by path of field, from 1."""

    kind: Kind
    file: Path
    fields: Mapping[str, object]
    lines: Mapping[Place, int]
    wanted: Message

    @property
    def id(self) -> str:
        return self.kind.id_of(self.wanted)

    def where(self, place: Place = ()) -> str:
        """`file:line` of a field, or of what holds it."""
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.file}:{self.lines.get(place, 1)}"

    def resolved(self, masked: bool) -> Message:
        """With secrets in the place of references. `masked`: one that cannot be read stays as the host has it.

        Raises InvalidInput that names the place, never the secret.
        """
        return self.kind.message() if not self.fields else _parsed(self, _resolve(self, self.fields, (), masked))


class _FieldNames(SafeConstructor):
    """Names of fields are text, also those that YAML takes for something else, such as `on`."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        return {str(key.value): self.construct_object(value, deep=True) for key, value in node.value}


def read_documents(files: Sequence[Path]) -> list[Document]:
    """All of them, in the order in which they are to be made. Raises InvalidInput that names file, line and field."""
    found: dict[tuple[str, str], Document] = {}
    for file in files:
        for document in _read(file):
            name = (document.kind.name, document.id)
            if name in found:
                raise InvalidInput(
                    f"{document.where()}: {document.kind.name} {document.id} is declared again; first at "
                    f"{found[name].where()}. Leave one of them out."
                )
            found[name] = document
    order = list(KINDS)
    return sorted(found.values(), key=lambda one: order.index(one.kind.name))


def _read(file: Path) -> list[Document]:
    try:
        nodes = list(yaml.compose_all(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader))
        return [_document(file, node) for node in nodes]
    except OSError as error:
        raise InvalidInput(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file}: is not UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{file}:{mark.line + 1}" if mark else str(file)
        raise InvalidInput(f"{place}: is not valid YAML ({getattr(error, 'problem', 'syntax')})") from error


def _document(file: Path, node: yaml.Node) -> Document:
    lines = dict(_lines(node, ()))
    at = f"{file}:{node.start_mark.line + 1}"
    content = _FieldNames().construct_document(node)
    if not isinstance(content, dict) or not isinstance(content.get("kind"), str):
        raise InvalidInput(f"{at}: a document holds `kind: NAME` and fields; kinds: {', '.join(KINDS)}")
    name = content["kind"]
    if name not in KINDS:
        close = difflib.get_close_matches(name, KINDS, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"kinds: {', '.join(KINDS)}"
        raise InvalidInput(f"{at}: unknown kind `{name}`; {hint}")
    kind = KINDS[name]
    # A message may have a field `kind` of its own: it is written as `spec.kind`.
    fields = {str(key): value for key, value in content.items() if key not in ("kind", "spec")}
    spec = content.get("spec", {})
    if not isinstance(spec, dict):
        raise InvalidInput(f"{at}: `spec` holds fields")
    lines.update({place[1:]: line for place, line in lines.items() if place[:1] == ("spec",) and len(place) > 1})
    document = Document(kind, file, {**fields, **spec}, lines, kind.message())
    wanted = _parsed(document, document.fields)
    if any(not getattr(wanted, one) for one in kind.key):
        raise InvalidInput(f"{at}: {name} needs {' and '.join(f'`{one}`' for one in kind.key)}")
    return Document(kind, file, document.fields, lines, wanted)


def _parsed(document: Document, fields: Mapping[str, object]) -> Message:
    """Field by field, so that an error has a line."""
    message = document.kind.message()
    known = document.kind.message.DESCRIPTOR.fields_by_name
    for name, value in fields.items():
        where = document.where((name,))
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            raise InvalidInput(f"{where}: {document.kind.name} has no field `{name}`{hint}")
        if name in document.kind.given:
            raise InvalidInput(f"{where}: `{name}` is given by the host and cannot be declared; leave it out")
        try:
            ParseDict({name: value}, message)
        except ParseError as error:
            # What was written may be a secret: the library's text quotes it.
            reason = "an unknown field inside" if "no field named" in str(error) else "a value of the wrong type"
            inner = re.search(r'no field named "(\w+)"', str(error))
            named = f" (`{inner[1]}`)" if inner else ""
            raise InvalidInput(f"{where}: `{name}` has {reason}{named}") from None
    return message


def _lines(node: yaml.Node, place: Place) -> list[tuple[Place, int]]:
    found = [(place, node.start_mark.line + 1)]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            found += _lines(value, inner)
            found.append((inner, key.start_mark.line + 1))
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            found += _lines(item, (*place, str(number)))
    return found


def is_reference(value: object) -> bool:
    """A secret that lies elsewhere."""
    return isinstance(value, str) and (_REFERENCE.search(value) is not None or value.startswith(_PLAIN_FILE))


def _resolve(document: Document, value: object, place: Place, masked: bool) -> dict[str, object]:
    resolved = _resolved(document, value, place, masked)
    assert isinstance(resolved, dict)
    return resolved


def _resolved(document: Document, value: object, place: Place, masked: bool) -> object:
    if isinstance(value, Mapping):
        return {str(key): _resolved(document, item, (*place, str(key)), masked) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(document, item, (*place, str(number)), masked) for number, item in enumerate(value)]
    if not isinstance(value, str) or not is_reference(value):
        return value
    try:
        if value.startswith(_PLAIN_FILE):
            return _of_file(document, value.removeprefix(_PLAIN_FILE))
        return _REFERENCE.sub(lambda match: _one(document, match[1], match[2]), value)
    except (KeyError, OSError) as error:
        if masked:
            return MASK
        what = f"the variable {error.args[0]} is not set" if isinstance(error, KeyError) else f"{error.strerror}"
        raise InvalidInput(f"{document.where(place)}: `{'.'.join(place)}` cannot be read: {what}") from None


def _one(document: Document, scheme: str, name: str) -> str:
    return os.environ[name] if scheme == "env" else _of_file(document, name)


def _of_file(document: Document, name: str) -> str:
    return (document.file.parent / name).read_text(encoding="utf-8").rstrip("\n")
