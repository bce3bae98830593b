"""What a run may touch."""

from dataclasses import dataclass, field

from portway.runtime.sdk.types.content import ArtifactRef
from portway.runtime.sdk.types.convert import Json


@dataclass(frozen=True, slots=True)
class ModelResource:
    """A model that the run may use; a `context_window` or `max_output_tokens` of 0 is unknown."""

    model_id: str = ""
    type: str = ""
    provider: str = ""
    context_window: int = 0
    vision: bool = False
    tool_calling: bool = False
    reasoning: bool = False
    max_output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ToolResource:
    """A tool that the run may call; `parameters` is a JSON Schema."""

    name: str = ""
    type: str = ""
    description: str = ""
    parameters: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KnowledgeBaseResource:
    knowledge_base_id: str = ""
    name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class SkillResource:
    name: str = ""
    description: str = ""
    path: str = ""
    digest: str = ""
    active: bool = False


@dataclass(frozen=True, slots=True)
class RunResources:
    """What the run may touch; the primary model first."""

    models: tuple[ModelResource, ...] = ()
    tools: tuple[ToolResource, ...] = ()
    knowledge_bases: tuple[KnowledgeBaseResource, ...] = ()
    skills: tuple[SkillResource, ...] = ()
    files: tuple[ArtifactRef, ...] = ()
    storage_plugin: bool = False
    storage_workspace: bool = False
    storage_binding: bool = False
    platform_actions: tuple[str, ...] = ()
    box: bool = False
