"""JSON Schemas in manifests: each mistake is told by the path of its field."""

import json
from collections.abc import Mapping
from typing import Any

from portway.runtime.plugins.fields import Fields

MAX_BYTES = 64 * 1024
MAX_MISTAKES = 8


def read_schema(fields: Fields, key: str) -> Mapping[str, Any]:
    """The schema of an object; the one without properties where none is given."""
    schema = fields.json_object(key)
    if not schema:
        return {"type": "object", "properties": {}}
    if len(json.dumps(schema)) > MAX_BYTES:
        fields.error(key, f"has more than {MAX_BYTES} bytes as JSON; make it simpler")
    elif schema.get("type") != "object":
        fields.error(f"{key}.type" if "type" in schema else key, "must be a JSON Schema whose type is object")
    else:
        _check(fields, key, schema)
    return schema


def _check(fields: Fields, key: str, schema: Mapping[str, Any]) -> None:
    # Loaded by the first component that has a schema.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    meta = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    for number, mistake in enumerate(meta.iter_errors(schema)):
        if number == MAX_MISTAKES:
            break
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in mistake.absolute_path)
        fields.error(f"{key}{path}", f"is no JSON Schema: {mistake.message[:300]}")
