"""Tools, knowledge engines, parsers and event listeners in manifests."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from portway.runtime.plugins.fields import Fields
from portway.runtime.plugins.json_schema import read_schema
from portway.runtime.plugins.permissions import read_permissions
from portway.runtime.plugins.types import (
    MIB,
    CallLimits,
    ComponentDefinition,
    ComponentKind,
    EngineDefinition,
    Idempotency,
    ListenerDefinition,
    ParserDefinition,
    Permission,
    ToolDefinition,
)

MAX_TIMEOUT = 3600.0
MAX_CONCURRENCY = 256
MAX_CALL_MIB = 1024
# What a component may ask the host for besides what it is given: the storage of its own plugin.
_ALLOWED = frozenset({Permission.STORAGE_PLUGIN})
_USUAL = {
    ComponentKind.TOOL: CallLimits(),
    ComponentKind.ENGINE: CallLimits(timeout=600.0, concurrency=8, input_bytes=256 * MIB),
    ComponentKind.PARSER: CallLimits(timeout=300.0, concurrency=4, input_bytes=64 * MIB, output_bytes=64 * MIB),
    ComponentKind.LISTENER: CallLimits(timeout=30.0),
}
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]*/([a-z0-9][a-z0-9.+-]*|\*)")
_EXTENSION = re.compile(r"\.[a-z0-9][a-z0-9.]{0,15}")
_EVENT_TYPE = re.compile(r"\*|[a-z][a-z0-9_]*(\.[a-z0-9_]+)*(\.\*)?")
_WORD = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


def read_kind(fields: Fields, kind: ComponentKind, name: str, code: str, owner_id: str, version: str) -> Any:
    """The component's definition. What is wrong is noted with its field; then nobody uses what is returned."""
    base = {
        "id": f"{owner_id}/{name}",
        "name": name,
        "code": code,
        "label": fields.localized("label"),
        "description": fields.localized("description", required=kind is ComponentKind.TOOL),
        "plugin_version": version,
        "permissions": _read_permissions(fields, kind),
        "limits": _read_limits(fields, _USUAL[kind]),
    }
    component = _READERS[kind](fields, base)
    fields.finish()
    return component


def _read_tool(fields: Fields, base: dict[str, Any]) -> ComponentDefinition:
    return ToolDefinition(
        **base,
        parameters=read_schema(fields, "parameters"),
        idempotency=fields.choice("idempotency", Idempotency, Idempotency.NOT_IDEMPOTENT),
    )


def _read_engine(fields: Fields, base: dict[str, Any]) -> ComponentDefinition:
    return EngineDefinition(
        **base,
        capabilities=_words(fields, "capabilities", _WORD, "is no word: lower-case letters, digits, -, _ and ."),
        creation_schema=read_schema(fields, "creation_schema"),
        retrieval_schema=read_schema(fields, "retrieval_schema"),
        media_types=_media_types(fields),
    )


def _read_parser(fields: Fields, base: dict[str, Any]) -> ComponentDefinition:
    media_types = _media_types(fields)
    extensions = _words(fields, "extensions", _EXTENSION, "is no ending of a name; write it like .md")
    if not media_types and not extensions:
        fields.error("media_types", "is missing; name the types that it reads, such as text/html")
    return ParserDefinition(**base, media_types=media_types, extensions=extensions)


def _read_listener(fields: Fields, base: dict[str, Any]) -> ComponentDefinition:
    form = "is no type of event; write it like message.received, message.* or *"
    types = _words(fields, "event_types", _EVENT_TYPE, form)
    if not fields.has("event_types"):
        fields.error("event_types", "is missing; name the types of events that it observes")
    filters = fields.section("filters")
    listener = ListenerDefinition(
        **base,
        event_types=types,
        sources=filters.texts("sources", most=50, longest=128),
        launcher_types=filters.texts("launcher_types", most=50, longest=64),
    )
    filters.finish()
    return listener


def _media_types(fields: Fields) -> Sequence[str]:
    return _words(fields, "media_types", _MEDIA_TYPE, "is no media type; write it like text/html")


def _words(fields: Fields, key: str, pattern: re.Pattern[str], form: str) -> Sequence[str]:
    words = fields.texts(key, most=100, longest=128)
    for index, word in enumerate(words):
        if pattern.fullmatch(word) is None:
            fields.error(f"{key}[{index}]", f"{word!r} {form}")
    return words


def _read_permissions(fields: Fields, kind: ComponentKind) -> frozenset[Permission]:
    granted = read_permissions(fields.section("permissions")).granted
    allowed = _ALLOWED if kind in (ComponentKind.TOOL, ComponentKind.LISTENER) else frozenset()
    for one in sorted(granted - allowed):
        what = f"a {kind} may have storage.plugin and nothing else" if allowed else f"a {kind} has none"
        fields.error(f"permissions.{one}", f"is not for this kind of component: {what}; remove it")
    return granted


def _read_limits(fields: Fields, usual: CallLimits) -> CallLimits:
    section = fields.section("limits")
    timeout = section.seconds("timeout")
    if timeout is not None and not 0 < timeout <= MAX_TIMEOUT:
        section.error("timeout", f"must be more than 0 and at most {MAX_TIMEOUT / 3600:g}h")
    limits = CallLimits(
        timeout=usual.timeout if timeout is None else timeout,
        concurrency=section.integer("concurrency", default=usual.concurrency, low=1, high=MAX_CONCURRENCY),
        input_bytes=_mib(section, "input_mb", usual.input_bytes),
        output_bytes=_mib(section, "output_mb", usual.output_bytes),
    )
    section.finish()
    return limits


def _mib(section: Fields, key: str, usual: int) -> int:
    return section.integer(key, default=usual // MIB, low=1, high=MAX_CALL_MIB) * MIB


_READERS: dict[ComponentKind, Callable[[Fields, dict[str, Any]], ComponentDefinition]] = {
    ComponentKind.TOOL: _read_tool,
    ComponentKind.ENGINE: _read_engine,
    ComponentKind.PARSER: _read_parser,
    ComponentKind.LISTENER: _read_listener,
}
