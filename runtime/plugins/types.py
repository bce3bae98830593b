"""What a plugin is: its definition as its folder describes it, and the components it brings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

PROTOCOL_VERSION = 1
MIB = 1024 * 1024

# Texts by BCP 47 tag; `en` is the fallback.
Localized = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a plugin or a component is left out, or (`warning`) what is odd about one that is used all the same.

    `plugin` is `author/name`, or the folder where the manifest is unreadable; `location` is file and field.
    """

    plugin: str
    location: str
    message: str
    warning: bool = False


class Permission(StrEnum):
    """What a runner may ask for. The name on the wire has `_` for `.`."""

    MODELS_INVOKE = "models.invoke"
    MODELS_STREAM = "models.stream"
    MODELS_RERANK = "models.rerank"
    MODELS_EMBED = "models.embed"
    MODELS_COUNT_TOKENS = "models.count_tokens"
    TOOLS_DETAIL = "tools.detail"
    TOOLS_CALL = "tools.call"
    KNOWLEDGE_BASES_LIST = "knowledge_bases.list"
    KNOWLEDGE_BASES_RETRIEVE = "knowledge_bases.retrieve"
    HISTORY_PAGE = "history.page"
    HISTORY_SEARCH = "history.search"
    EVENTS_GET = "events.get"
    EVENTS_PAGE = "events.page"
    ARTIFACTS_METADATA = "artifacts.metadata"
    ARTIFACTS_READ = "artifacts.read"
    ARTIFACTS_WRITE = "artifacts.write"
    STORAGE_PLUGIN = "storage.plugin"
    STORAGE_WORKSPACE = "storage.workspace"
    STORAGE_BINDING = "storage.binding"
    FILES_CONFIG = "files.config"
    FILES_KNOWLEDGE = "files.knowledge"
    INTERACTIONS_REQUEST = "interactions.request"
    APPROVALS_REQUEST = "approvals.request"
    STATE = "state"
    PROMPT = "prompt"
    BOX_EXEC = "box.exec"
    BOX_PROCESSES = "box.processes"


class HistoryScope(StrEnum):
    THREAD = "thread"
    CONVERSATION = "conversation"
    WORKSPACE = "workspace"


class Capability(StrEnum):
    STREAMING = "streaming"
    TOOL_CALLING = "tool_calling"
    KNOWLEDGE_RETRIEVAL = "knowledge_retrieval"
    MULTIMODAL_INPUT = "multimodal_input"
    EVENT_CONTEXT = "event_context"
    PLATFORM_API = "platform_api"
    INTERRUPT = "interrupt"
    STEERING = "steering"
    INTERACTIONS = "interactions"
    STATEFUL_SESSION = "stateful_session"
    SELF_MANAGED_CONTEXT = "self_managed_context"
    SKILL_AUTHORING = "skill_authoring"


class ContextFeature(StrEnum):
    SUPPORTS_HISTORY_PULL = "supports_history_pull"
    SUPPORTS_HISTORY_SEARCH = "supports_history_search"
    SUPPORTS_ARTIFACT_PULL = "supports_artifact_pull"
    OWNS_COMPACTION = "owns_compaction"
    WANTS_STATIC_CONTEXT_REFS = "wants_static_context_refs"


class ConfigFieldType(StrEnum):
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


class InterruptedPolicy(StrEnum):
    UNSPECIFIED = ""
    RETRY = "retry"
    FAIL = "fail"


class Idempotency(StrEnum):
    READ_ONLY = "read_only"
    IDEMPOTENT = "idempotent"
    RECONCILABLE = "reconcilable"
    NOT_IDEMPOTENT = "not_idempotent"


class StartMode(StrEnum):
    ON_DEMAND = "on_demand"
    BOOT = "boot"


@dataclass(frozen=True, slots=True)
class ConfigOption:
    value: str
    label: Localized


@dataclass(frozen=True, slots=True)
class ConfigField:
    """One field of the form for a runner's configuration. `default` is JSON, None where there is none."""

    id: str
    name: str
    type: ConfigFieldType
    label: Localized
    description: Localized = field(default_factory=dict)
    default: Any = None
    required: bool = False
    options: Sequence[ConfigOption] = ()


@dataclass(frozen=True, slots=True)
class Permissions:
    granted: frozenset[Permission] = frozenset()
    history_scope: HistoryScope = HistoryScope.CONVERSATION
    platform_actions: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RunnerDefinition:
    """A runner. `code` is `module:Class` in a Python plugin and empty where the plugin is an executable."""

    id: str
    name: str
    code: str
    label: Localized
    description: Localized
    protocol_version: int
    capabilities: frozenset[Capability]
    permissions: Permissions
    context_policy: frozenset[ContextFeature]
    config_schema: Sequence[ConfigField]
    plugin_version: str
    retry_safe: bool
    on_interrupted: InterruptedPolicy
    metadata: Mapping[str, Any]


class ComponentKind(StrEnum):
    """What a plugin can bring. The names are those of manifests and of the contract."""

    RUNNER = "AgentRunner"
    TOOL = "Tool"
    ENGINE = "KnowledgeEngine"
    PARSER = "Parser"
    LISTENER = "EventListener"


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What one call of a component may use. `timeout` is in seconds, None for as long as its caller waits."""

    timeout: float | None = None
    concurrency: int = 16
    input_bytes: int = 8 * MIB
    output_bytes: int = 8 * MIB


@dataclass(frozen=True, slots=True)
class ComponentDefinition:
    """A component that is no runner. `id` is `author/name/component`; `code` as in a runner."""

    id: str
    name: str
    code: str
    label: Localized
    description: Localized
    plugin_version: str
    permissions: frozenset[Permission]
    limits: CallLimits


@dataclass(frozen=True, slots=True)
class ToolDefinition(ComponentDefinition):
    """A tool. `parameters` is a JSON Schema."""

    parameters: Mapping[str, Any]
    idempotency: Idempotency


@dataclass(frozen=True, slots=True)
class EngineDefinition(ComponentDefinition):
    """A knowledge engine. The schemas are JSON Schemas; `media_types` are those that it takes as bytes."""

    capabilities: Sequence[str]
    creation_schema: Mapping[str, Any]
    retrieval_schema: Mapping[str, Any]
    media_types: Sequence[str]


@dataclass(frozen=True, slots=True)
class ParserDefinition(ComponentDefinition):
    """A parser of documents."""

    media_types: Sequence[str]
    extensions: Sequence[str]


@dataclass(frozen=True, slots=True)
class ListenerDefinition(ComponentDefinition):
    """An event listener. Empty filters let everything through; a type may end in `*`."""

    event_types: Sequence[str]
    sources: Sequence[str]
    launcher_types: Sequence[str]


@dataclass(frozen=True, slots=True)
class Package:
    """A package by its normalised name; `text` is the requirement, `hashes` are `--hash=…` of the files allowed."""

    name: str
    text: str
    hashes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Requirements:
    """The packages that a plugin needs in an environment of its own, and the wheels in its folder."""

    packages: Sequence[Package]
    wheels: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class PythonCode:
    """The plugin's components are classes of Python modules in its folder. With `requirements` it gets an environment
    and a Python of its own; without, it has what the runtime has."""

    requirements: Requirements | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """The plugin is a program in any language. `arguments[0]` is a path in the plugin's folder or a name on PATH."""

    arguments: Sequence[str]


Execution = PythonCode | Command


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """What a plugin may use of the machine, with all that it starts. `processes` counts threads too; `cpus` is how many
    processors' time it may take, 0 for as much as there is. `data_mb` is what it may keep in its folder."""

    memory_mb: int = 512
    open_files: int = 1024
    processes: int = 256
    cpus: float = 0.0
    data_mb: int = 256


@dataclass(frozen=True, slots=True)
class PluginDefinition:
    """A plugin that can be used. `digest` changes whenever a file of its folder does; `idle_stop` is in seconds."""

    id: str
    version: str
    folder: Path
    bundled: bool
    label: Localized
    description: Localized
    execution: Execution
    start: StartMode
    idle_stop: float | None
    limits: ProcessLimits
    environment: Sequence[str]
    runners: Sequence[RunnerDefinition]
    tools: Sequence[ToolDefinition]
    others: Sequence[EngineDefinition | ParserDefinition | ListenerDefinition]
    problems: Sequence[Problem]
    digest: str


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A folder that holds a plugin nobody can use. `id` is `author/name` where the manifest says so."""

    id: str
    version: str
    folder: Path
    bundled: bool
    problems: Sequence[Problem]


def kind_of(component: RunnerDefinition | ComponentDefinition) -> ComponentKind:
    return _KINDS[type(component)]


_KINDS: Mapping[type, ComponentKind] = {
    RunnerDefinition: ComponentKind.RUNNER,
    ToolDefinition: ComponentKind.TOOL,
    EngineDefinition: ComponentKind.ENGINE,
    ParserDefinition: ComponentKind.PARSER,
    ListenerDefinition: ComponentKind.LISTENER,
}
