"""What an agent's configuration selects: fields of selector types grant what is chosen in them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from portway.server.runtimes.runner import ConfigField, FieldType


@dataclass(frozen=True, slots=True)
class Selected:
    """Ids in the order in which they are to be tried or shown."""

    models: tuple[str, ...] = ()
    rerank_models: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    knowledge_bases: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()


def selected_by(fields: Sequence[ConfigField], config: Mapping[str, object]) -> Selected:
    """Read the selector fields of a configuration. A value of another shape selects nothing."""
    found: dict[FieldType, list[str]] = {}
    for field in fields:
        if field.type is not None:
            found.setdefault(field.type, []).extend(_names(config.get(field.name)))
    models = [*found.get(FieldType.MODEL_FALLBACK_SELECTOR, ()), *found.get(FieldType.LLM_MODEL_SELECTOR, ())]
    return Selected(
        models=_once(models),
        rerank_models=_once(found.get(FieldType.RERANK_MODEL_SELECTOR, ())),
        tools=_once(found.get(FieldType.TOOL_MULTI_SELECTOR, ())),
        knowledge_bases=_once(found.get(FieldType.KNOWLEDGE_BASE_MULTI_SELECTOR, ())),
        skills=_once(found.get(FieldType.SKILL_MULTI_SELECTOR, ())),
    )


def _names(value: object) -> Iterator[str]:
    """One id, a list of ids, or `{primary, fallbacks}`."""
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, Mapping):
        yield from _names(value.get("primary"))
        yield from _names(value.get("fallbacks"))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            if isinstance(item, str) and item:
                yield item


def _once(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
