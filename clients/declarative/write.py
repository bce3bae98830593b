"""A host's set-up written down, so that `apply` makes the same of an empty one."""

import re
from collections.abc import Mapping

import yaml
from google.protobuf.message import Message

from portway.clients.declarative.compare import plain
from portway.clients.declarative.documents import MASK, Place
from portway.clients.declarative.kinds import Kind
from portway.v1 import binding_pb2

# Kind and id come before the fields.
_DEPTH = 2


def is_declared_elsewhere(message: Message) -> bool:
    """By the host's own configuration file: it comes with that."""
    return bool(getattr(message, "managed_by", 0) == binding_pb2.MANAGED_BY_CONFIG)


def document_of(kind: Kind, message: Message) -> str:
    """One YAML document; a variable stands where a secret is."""
    fields = plain(kind, message)
    for name in kind.secrets():
        if getattr(message, f"has_{name}", False):
            fields[name] = MASK
    written = _with_references(fields, (kind.name, kind.id_of(message)))
    assert isinstance(written, dict)
    document = {"kind": kind.name, "spec": written} if "kind" in written else {"kind": kind.name, **written}
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{text}"


def _with_references(value: object, place: Place) -> object:
    if isinstance(value, Mapping):
        # Below the message itself in the order of the alphabet: a Struct has none of its own.
        names = sorted(value) if len(place) > _DEPTH else list(value)
        return {name: _with_references(value[name], (*place, str(name))) for name in names}
    if isinstance(value, list):
        return [_with_references(item, (*place, str(number))) for number, item in enumerate(value)]
    if value == MASK:
        return "${env:" + re.sub(r"[^A-Z0-9]+", "_", "_".join(place).upper()) + "}"
    return value
