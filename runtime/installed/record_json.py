"""A record as it lies on disk: JSON, read strictly, because a person or a newer version may have written it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from portway.runtime.installed.types import Record, Request, Signature, Version

FORMAT = 1

T = TypeVar("T")


class UnreadableRecord(Exception):
    """The file is no record that this version can read; the message is for people."""


def write_record(record: Record) -> bytes:
    return (json.dumps({"format": FORMAT, **asdict(record)}, ensure_ascii=False, indent=1) + "\n").encode()


def read_record(raw: bytes) -> Record:
    """Raises `UnreadableRecord`."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise UnreadableRecord("is not JSON") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise UnreadableRecord(f"is not of format {FORMAT}; it may be of a newer version")
    try:
        return Record(
            plugin_id=_a(str, value["plugin_id"]),
            generation=_a(int, value["generation"]),
            current=_a(str, value["current"]),
            history=_texts(value["history"]),
            waiting=_texts(value["waiting"]),
            versions=_each(value["versions"], _version),
            granted=_texts(value["granted"]),
            disabled=_a(bool, value["disabled"]),
            disabled_because=_a(str, value["disabled_because"]),
            requests=_each(value["requests"], _request),
        )
    except (KeyError, TypeError) as error:
        raise UnreadableRecord(f"lacks what belongs into it ({error})") from None


def _version(value: Mapping[str, Any]) -> Version:
    signature = value["signature"]
    return Version(
        version=_a(str, value["version"]),
        digest=_a(str, value["digest"]),
        folder=_folder(value["folder"]),
        install_time=_a(int, value["install_time"]),
        permissions=_texts(value["permissions"]),
        signature=Signature(_a(str, signature["key_id"]), _a(str, signature["value"])) if signature else None,
        byte_count=_a(int, value["byte_count"]),
        file_count=_a(int, value["file_count"]),
    )


def _folder(value: object) -> str:
    """A name of two parts, never a way out of the folder of versions: what it names is removed one day."""
    folder = _a(str, value)
    parts = folder.split("/")
    if len(parts) != 2 or any(part in ("", ".", "..") for part in parts):
        raise TypeError(f"the folder {folder!r} is none")
    return folder


def _request(value: Mapping[str, Any]) -> Request:
    return Request(_a(str, value["request_id"]), _a(str, value["action"]), _a(str, value["digest"]))


def _a(kind: type[T], value: object) -> T:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _texts(value: object) -> Sequence[str]:
    return tuple(_a(str, one) for one in _a(list, value))


def _each(value: object, read: Callable[[Mapping[str, Any]], T]) -> Sequence[T]:
    return tuple(read(_a(dict, one)) for one in _a(list, value))
