"""Arguments against a tool's JSON schema, within bounds: the schema is a stranger's, and so are the arguments.

No reference leaves the schema, patterns are matched in linear time, and a check that would take long is ended.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import re2

from portway.rpc.errors import FieldViolation, InvalidInput
from portway.server.tools.types import JsonObject, ToolSpec

MAX_SCHEMA_BYTES = 64 * 1024
MAX_SCHEMA_DEPTH = 40
MAX_ARGUMENT_BYTES = 1024 * 1024
MAX_ARGUMENT_DEPTH = 64
MAX_STEPS = 200_000
MAX_VIOLATIONS = 8
_REMEMBERED = 512
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")

Keyword = Callable[[Any, Any, Any, Any], Iterator[Any] | None]


class SchemaProblem(InvalidInput):
    """The schema itself cannot be used."""


class _TooLong(Exception):
    """The check would take too many steps."""


class Schema:
    """One schema, ready to be asked. Raises SchemaProblem where it cannot be used."""

    def __init__(self, schema: JsonObject) -> None:
        _refuse_unusable(schema)
        self._steps = 0
        self._validator = self._made(dict(schema))

    def violations(self, arguments: JsonObject) -> list[FieldViolation]:
        """What is wrong with the arguments, at most eight. Raises SchemaProblem where it cannot be told."""
        if _depth(arguments, MAX_ARGUMENT_DEPTH) > MAX_ARGUMENT_DEPTH:
            return [FieldViolation("arguments", f"must be nested at most {MAX_ARGUMENT_DEPTH} levels deep")]
        if len(json.dumps(arguments)) > MAX_ARGUMENT_BYTES:
            return [FieldViolation("arguments", f"must have at most {MAX_ARGUMENT_BYTES} bytes")]
        self._steps = 0
        found: list[FieldViolation] = []
        try:
            for error in self._validator.iter_errors(arguments):
                found.append(FieldViolation(_path(error.absolute_path), str(error.message)[:300]))
                if len(found) == MAX_VIOLATIONS:
                    break
        except (_TooLong, RecursionError) as error:
            raise SchemaProblem("the tool's schema takes too long to check; its author must simplify it") from error
        except _broken_schemas() as error:
            raise SchemaProblem("the tool's schema refers to what it does not hold") from error
        return found

    def _made(self, schema: dict[str, Any]) -> Any:
        # The library is loaded by the first schema that is not the host's own.
        from jsonschema import SchemaError, validators  # noqa: PLC0415
        from referencing import Registry  # noqa: PLC0415

        base = validators.validator_for(schema, default=validators.Draft202012Validator)
        try:
            base.check_schema(schema)
        except SchemaError as error:
            raise SchemaProblem(f"the schema is none: {str(error.message)[:300]}") from None
        except RecursionError:
            raise SchemaProblem("the schema is nested too deep") from None
        own: dict[str, Keyword] = {
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "uniqueItems": _unique_items,
        }
        keywords = {name: self._counted(own.get(name, check)) for name, check in base.VALIDATORS.items()}
        return validators.extend(base, keywords)(schema, registry=Registry())

    def _counted(self, check: Keyword) -> Keyword:
        def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
            self._steps += 1 + (len(value) if isinstance(value, list | dict) else 0)
            if self._steps > MAX_STEPS:
                raise _TooLong
            yield from check(validator, value, instance, schema) or ()

        return counted


def _broken_schemas() -> tuple[type[Exception], ...]:
    """What a check finds of a schema that refers to nothing, or to a type that nobody knows."""
    from jsonschema.exceptions import UnknownType  # noqa: PLC0415 - loaded already, by the schema
    from referencing.exceptions import Unresolvable  # noqa: PLC0415 - as above

    return (Unresolvable, UnknownType)


class Schemas:
    """Schemas of tools, each made once."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[ToolSpec, Schema]] = OrderedDict()

    def check(self, spec: ToolSpec, arguments: JsonObject) -> None:
        """Raises InvalidInput with the paths, SchemaProblem."""
        known = self._known.get(id(spec))
        if known is None:
            known = self._known[id(spec)] = (spec, Schema(spec.input_schema))
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        found = known[1].violations(arguments)
        if found:
            text = "; ".join(f"{one.field}: {one.description}" for one in found)
            raise InvalidInput(f"the arguments do not fit the tool {spec.name!r}: {text}", fields=found)


def _refuse_unusable(schema: JsonObject) -> None:
    if schema.get("type") != "object":
        raise SchemaProblem("the schema's type must be object")
    if _depth(schema, MAX_SCHEMA_DEPTH) > MAX_SCHEMA_DEPTH:
        raise SchemaProblem(f"the schema is nested more than {MAX_SCHEMA_DEPTH} levels deep")
    if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise SchemaProblem(f"the schema has more than {MAX_SCHEMA_BYTES} bytes")
    for name, value in _pairs(schema):
        if name in _REFERENCES and isinstance(value, str) and not value.startswith("#"):
            raise SchemaProblem(f"the schema refers to {value[:100]!r}; only references inside of it are followed")


def _pairs(value: object) -> Iterator[tuple[str, object]]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            yield from one.items()
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _depth(value: object, limit: int) -> int:
    """How deep it is nested, counted up to one more than the limit."""
    level: list[object] = [value]
    depth = 0
    while level and depth <= limit:
        following: list[object] = []
        for one in level:
            if isinstance(one, Mapping):
                following.extend(one.values())
            elif isinstance(one, list):
                following.extend(one)
        level = [one for one in following if isinstance(one, Mapping | list)]
        depth += 1
    return depth


def _path(parts: Any) -> str:
    text = "arguments"
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text[:300]


def _compiled(pattern: object) -> Any | None:
    """None for what this engine does not know (look-ahead and the like): the tool's own check stands then."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(str(pattern), options=options)
    except re2.error:
        return None


def _pattern(validator: Any, pattern: object, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError  # noqa: PLC0415 - loaded already, by the schema that has the keyword

    if isinstance(instance, str):
        compiled = _compiled(pattern)
        if compiled is not None and not compiled.search(instance):
            yield ValidationError(f"{instance[:100]!r} does not match {str(pattern)[:100]!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    for pattern, subschema in patterns.items():
        compiled = _compiled(pattern)
        for name, value in instance.items() if compiled is not None else ():
            if compiled is not None and compiled.search(name):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _unique_items(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError  # noqa: PLC0415 - loaded already, by the schema that has the keyword

    if unique and isinstance(instance, list):
        if len({json.dumps(item, sort_keys=True) for item in instance}) != len(instance):
            yield ValidationError("has items that are equal")
