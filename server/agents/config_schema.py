"""Checking an agent's configuration against the fields that its runner declares."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence

from portway.rpc.errors import FieldViolation
from portway.server.runtimes.runner import ConfigField, FieldType

_ROLES = ("system", "user", "assistant")
Wrongs = Iterator[tuple[str, str]]


def violations_of(config: Mapping[str, object], fields: Sequence[ConfigField]) -> list[FieldViolation]:
    """Everything that is wrong, each with its path in the request."""
    known = {field.name: field for field in fields}
    found: list[FieldViolation] = []
    for name in config.keys() - known.keys():
        found.append(FieldViolation(_path(name), _unknown(name, known)))
    for field in fields:
        value = config.get(field.name)
        if value is None or value == "":
            if field.required and not field.default_json:
                found.append(FieldViolation(_path(field.name), "is required"))
            continue
        found.extend(FieldViolation(path, text) for path, text in _wrong(_path(field.name), field, value))
    return sorted(found, key=lambda one: one.field)


def _wrong(path: str, field: ConfigField, value: object) -> Wrongs:
    # A type from a newer contract is the runner's own to check.
    check = _CHECKS.get(field.type) if field.type else None
    if check is not None:
        yield from check(path, value, field)


def _text(path: str, value: object, field: ConfigField) -> Wrongs:
    if not isinstance(value, str):
        yield path, "must be a text"


def _number(path: str, value: object, field: ConfigField) -> Wrongs:
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield path, "must be a number"


def _boolean(path: str, value: object, field: ConfigField) -> Wrongs:
    if not isinstance(value, bool):
        yield path, "must be true or false"


def _option(path: str, value: object, field: ConfigField) -> Wrongs:
    if value not in field.options:
        yield path, _not_an_option(value, field)


def _options(path: str, value: object, field: ConfigField) -> Wrongs:
    wrong_shape = list(_names(path, value, field))
    yield from wrong_shape
    if not wrong_shape and isinstance(value, list):
        for index, item in enumerate(value):
            if item not in field.options:
                yield f"{path}[{index}]", _not_an_option(item, field)


def _names(path: str, value: object, field: ConfigField) -> Wrongs:
    if not isinstance(value, list):
        yield path, "must be a list of texts"
        return
    for index, item in enumerate(value):
        if not isinstance(item, str):
            yield f"{path}[{index}]", "must be a text"


def _prompt(path: str, value: object, field: ConfigField) -> Wrongs:
    if isinstance(value, str):
        return
    if not isinstance(value, list):
        yield path, "must be a text, or a list of {role, content}"
        return
    for index, item in enumerate(value):
        whole = isinstance(item, dict) and isinstance(item.get("content"), str) and item.get("role") in _ROLES
        if not whole:
            yield f"{path}[{index}]", f"must be {{role, content}} with a role of {', '.join(_ROLES)}"


def _models(path: str, value: object, field: ConfigField) -> Wrongs:
    if isinstance(value, str):
        return
    if not isinstance(value, dict):
        yield path, "must be a model id, or {primary, fallbacks}"
        return
    if not isinstance(value.get("primary"), str):
        yield f"{path}.primary", "must be a model id"
    yield from _names(f"{path}.fallbacks", value.get("fallbacks", []), field)
    for name in value.keys() - {"primary", "fallbacks"}:
        yield f"{path}.{name}", "is not known here; use primary and fallbacks"


_CHECKS: Mapping[FieldType, Callable[[str, object, ConfigField], Wrongs]] = {
    FieldType.TEXT: _text,
    FieldType.TEXTAREA: _text,
    FieldType.SECRET: _text,
    FieldType.NUMBER: _number,
    FieldType.BOOLEAN: _boolean,
    FieldType.SELECT: _option,
    FieldType.MULTISELECT: _options,
    FieldType.PROMPT_EDITOR: _prompt,
    FieldType.LLM_MODEL_SELECTOR: _text,
    FieldType.RERANK_MODEL_SELECTOR: _text,
    FieldType.MODEL_FALLBACK_SELECTOR: _models,
    FieldType.KNOWLEDGE_BASE_MULTI_SELECTOR: _names,
    FieldType.TOOL_MULTI_SELECTOR: _names,
    FieldType.SKILL_MULTI_SELECTOR: _names,
}


def _path(name: str) -> str:
    return f"agent.config.{name}"


def _not_an_option(value: object, field: ConfigField) -> str:
    return f"{value!r} is not one of {', '.join(field.options) or 'the options (there are none)'}"


def _unknown(name: str, known: Mapping[str, ConfigField]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"the runner has no such field; did you mean {near[0]!r}?"
    return f"the runner has no such field; it has {', '.join(sorted(known)) or 'none'}"
