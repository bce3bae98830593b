"""The form for a runner's configuration, as its manifest describes it."""

from collections.abc import Sequence
from typing import Any

from portway.runtime.plugins.fields import Fields
from portway.runtime.plugins.types import ConfigField, ConfigFieldType, ConfigOption

MAX_FIELDS = 200
_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_TEXTS = frozenset({ConfigFieldType.TEXT, ConfigFieldType.TEXTAREA, ConfigFieldType.SELECT})
_LISTS = frozenset(
    {
        ConfigFieldType.MULTISELECT,
        ConfigFieldType.KNOWLEDGE_BASE_MULTI_SELECTOR,
        ConfigFieldType.TOOL_MULTI_SELECTOR,
        ConfigFieldType.SKILL_MULTI_SELECTOR,
    }
)
_CHOICES = frozenset({ConfigFieldType.SELECT, ConfigFieldType.MULTISELECT})


def read_config_schema(fields: Fields, key: str) -> Sequence[ConfigField]:
    read = [_read_field(one) for one in fields.sections(key, most=MAX_FIELDS)]
    names = _twice([one.name for one in read])
    # An id that is not given is the name: it is told only once.
    ids = [one for one in _twice([one.id for one in read]) if one not in names]
    for value in names + ids:
        fields.error(key, f"has {value!r} more than once; the name and the id of a field are its own")
    return tuple(read)


def _twice(values: Sequence[str]) -> list[str]:
    return sorted({value for value in values if value and values.count(value) > 1})


def _read_field(fields: Fields) -> ConfigField:
    name = fields.text("name", required=True, pattern=_NAME, form="is no name: letters, digits, _ and -", longest=128)
    kind = fields.choice("type", ConfigFieldType, ConfigFieldType.TEXT)
    if not fields.has("type"):
        fields.error("type", "is missing; add one such as text, number or select")
    options = tuple(
        ConfigOption(
            value=option.text("value", required=True, longest=512),
            label=option.localized("label") or {"en": str(option.raw("value"))},
        )
        for option in fields.sections("options", most=500)
    )
    if kind in _CHOICES and not options:
        fields.error("options", f"is missing; a {kind} needs something to choose from")
    default = fields.json("default")
    _check_default(fields, kind, default, options)
    field = ConfigField(
        id=fields.text("id", default=name, longest=128),
        name=name,
        type=kind,
        label=fields.localized("label") or {"en": name},
        description=fields.localized("description"),
        default=default,
        required=fields.flag("required"),
        options=options,
    )
    fields.finish()
    return field


def _check_default(fields: Fields, kind: ConfigFieldType, default: Any, options: Sequence[ConfigOption]) -> None:
    if default is None:
        return
    if kind is ConfigFieldType.SECRET:
        fields.error("default", "a secret has no default; leave it out")
    elif not _fits(kind, default):
        fields.error("default", f"does not fit a field of type {kind}")
    elif kind in _CHOICES:
        known = {option.value for option in options}
        for value in default if isinstance(default, list) else [default]:
            if value not in known:
                fields.error("default", f"{value!r} is not among the options")


def _fits(kind: ConfigFieldType, default: Any) -> bool:
    if kind is ConfigFieldType.NUMBER:
        return isinstance(default, int | float) and not isinstance(default, bool)
    if kind is ConfigFieldType.BOOLEAN:
        return isinstance(default, bool)
    if kind in _TEXTS:
        return isinstance(default, str)
    if kind in _LISTS:
        return isinstance(default, list) and all(isinstance(one, str) for one in default)
    if kind is ConfigFieldType.PROMPT_EDITOR:
        return isinstance(default, str | list)
    if kind is ConfigFieldType.MODEL_FALLBACK_SELECTOR:
        return isinstance(default, str | dict)
    return isinstance(default, str)
