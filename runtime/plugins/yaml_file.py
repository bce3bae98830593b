"""Reads a YAML file strictly: bounded, no aliases, no key twice, and errors that name the line."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

MAX_FILE_BYTES = 256 * 1024


class UnreadableFile(Exception):
    """The file is not a YAML mapping; the message is for people, without the file's name."""


class _StrictLoader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # An alias makes a small file large once it is walked, and no manifest needs one.
        if self.check_event(yaml.AliasEvent):
            raise UnreadableFile("has an alias (*name), which manifests may not; write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    line = key_node.start_mark.line + 1
                    raise UnreadableFile(f"line {line}: the key {key_node.value!r} stands twice; keep one")
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The mapping in the file. Raises `UnreadableFile`."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror}; check that it is there and readable") from None
    if len(raw) > MAX_FILE_BYTES:
        raise UnreadableFile(f"is larger than {MAX_FILE_BYTES // 1024} KiB; a manifest describes, it holds no data")
    try:
        value = yaml.load(raw.decode(), Loader=_StrictLoader)
    except UnicodeDecodeError:
        raise UnreadableFile("is not UTF-8 text; save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        raise UnreadableFile(_say(error)) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UnreadableFile("is not YAML that can be read; check its syntax") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UnreadableFile("is not a mapping of names to values")
    return value


def _say(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}is not valid YAML ({error.problem or error.context}); correct it"
