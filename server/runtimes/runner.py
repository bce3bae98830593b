"""A runner as its manifest describes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from portway.rpc.errors import InvalidInput
from portway.server.snapshot.permissions import Permissions

PROTOCOL_VERSION = 1


class FieldType(StrEnum):
    """What a field of a runner's configuration takes. Selectors grant what they select."""

    TEXT = "text"
    TEXTAREA = "textarea"
    NUMBER = "number"
    BOOLEAN = "boolean"
    SELECT = "select"
    MULTISELECT = "multiselect"
    SECRET = "secret"
    PROMPT_EDITOR = "prompt-editor"
    LLM_MODEL_SELECTOR = "llm-model-selector"
    MODEL_FALLBACK_SELECTOR = "model-fallback-selector"
    RERANK_MODEL_SELECTOR = "rerank-model-selector"
    KNOWLEDGE_BASE_MULTI_SELECTOR = "knowledge-base-multi-selector"
    TOOL_MULTI_SELECTOR = "tool-multi-selector"
    SKILL_MULTI_SELECTOR = "skill-multi-selector"


@dataclass(frozen=True, slots=True)
class ConfigField:
    """One field of a runner's configuration.

    `default_json` is '' where there is none; `options` are the allowed values.
    """

    name: str
    type: FieldType | None
    label: Mapping[str, str]
    required: bool
    default_json: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Runner:
    """A runner that can be used. `manifest` is the serialized manifest, `on_interrupted` '' where it has no wish."""

    runner_id: str
    plugin_id: str
    plugin_version: str
    protocol_version: int
    capabilities: frozenset[str]
    permissions: Permissions
    config_fields: tuple[ConfigField, ...]
    retry_safe: bool
    on_interrupted: str
    manifest: bytes


def plugin_of(runner_id: str) -> str:
    """`author/name` of `plugin:author/name/runner`. Raises InvalidInput for an id of another form."""
    scheme, _, path = runner_id.partition(":")
    parts = path.split("/")
    if scheme != "plugin" or len(parts) != 3 or not all(parts):
        raise InvalidInput.field("runner_id", f"{runner_id!r} is not of the form plugin:author/name/runner")
    return f"{parts[0]}/{parts[1]}"
