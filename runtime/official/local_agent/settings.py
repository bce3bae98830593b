"""The agent's configuration, and what it leaves to be chosen. Every field, limit and default is in the component's
manifest and in docs/runner-local-agent.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from portway.runtime.official.local_agent.config import Config, wrong
from portway.runtime.sdk import ModelMessage, RunContext, RunFailure
from portway.runtime.sdk.types.content import MessageRole, text_part
from portway.runtime.sdk.types.resources import ModelResource, ToolResource

DEFAULT_PROMPT = (
    "You are a helpful assistant. Answer in the language of the person you talk to. Be brief unless asked for more. "
    "Use the tools you are given where they help, and say plainly when something did not work."
)
UNKNOWN_WINDOW_TOKENS = 16_000
MAX_TOKENS = 2_000_000
# The host ends a run that has more.
MAX_ROUNDS = 128
MAX_FALLBACKS = 8
_ROLES = {"system": MessageRole.SYSTEM, "user": MessageRole.USER, "assistant": MessageRole.ASSISTANT}

# What any runner that asks a model about a conversation has.
MODEL_FIELDS = ("prompt", "model", "temperature", "max_output_tokens")
HISTORY_FIELDS = ("history_tokens", "history_items", "history_images", "compaction")
TOOL_FIELDS = ("tools", "skills", "max_rounds", "parallel_calls", "repeat_limit", "tool_seconds", "ask_people")
KNOWLEDGE_FIELDS = (
    "knowledge_bases",
    "knowledge_mode",
    "knowledge_top_k",
    "knowledge_min_score",
    "knowledge_tokens",
    "rerank_model",
    "show_sources",
)


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """How much of the conversation is shown: tokens, messages, and the newest so many pictures."""

    tokens: int
    items: int
    images: int
    compaction: bool


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which models are asked, the first one first, and how. `prompt` still has its values to be filled in."""

    models: Sequence[ModelResource]
    prompt: Sequence[ModelMessage]
    temperature: float | None
    max_output_tokens: int | None

    @property
    def window(self) -> int:
        """Of the first model, in tokens; 0 where nobody knows it."""
        return self.models[0].context_window


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """Tools, and the limits of their calls."""

    tools: Sequence[ToolResource]
    max_rounds: int
    parallel: int
    repeats: int
    time: timedelta
    ask_people: bool


@dataclass(frozen=True, slots=True)
class KnowledgeSettings:
    """Which bases are asked, and how much of what they hold is shown."""

    bases: Sequence[str]
    as_tool: bool
    top_k: int
    min_score: float
    tokens: int
    rerank_model: str
    show_sources: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """What one run goes by."""

    model: ModelSettings
    history: HistorySettings
    tools: ToolSettings
    knowledge: KnowledgeSettings


def read_settings(ctx: RunContext) -> Settings:
    """Raises `RunFailure` with a message for the operator where the configuration cannot be used."""
    config = Config(ctx.config, (*MODEL_FIELDS, *HISTORY_FIELDS, *TOOL_FIELDS, *KNOWLEDGE_FIELDS))
    model = model_settings(config, ctx)
    return Settings(model, history_settings(config, model), _tools(config, ctx), _knowledge(config, ctx))


def model_settings(config: Config, ctx: RunContext) -> ModelSettings:
    longest = config.whole("max_output_tokens", 0, 0, MAX_TOKENS)
    return ModelSettings(
        models=_models(config, ctx),
        prompt=_prompt(config.raw("prompt")),
        temperature=config.number("temperature", None, 0, 2),
        max_output_tokens=longest or None,
    )


def history_settings(config: Config, model: ModelSettings) -> HistorySettings:
    usual = model.window // 2 or UNKNOWN_WINDOW_TOKENS
    return HistorySettings(
        tokens=config.whole("history_tokens", 0, 0, MAX_TOKENS) or usual,
        items=config.whole("history_items", 400, 0, 1_000),
        images=config.whole("history_images", 4, 0, 20),
        compaction=config.flag("compaction", True),
    )


def _tools(config: Config, ctx: RunContext) -> ToolSettings:
    wanted = config.names("tools")
    skills = {tool.name for tool in ctx.resources.tools if tool.type == "skill"}
    return ToolSettings(
        tools=tuple(one for one in ctx.resources.tools if not wanted or one.name in wanted or one.name in skills),
        max_rounds=config.whole("max_rounds", 25, 0, MAX_ROUNDS),
        parallel=config.whole("parallel_calls", 8, 1, 32),
        repeats=config.whole("repeat_limit", 5, 0, 100),
        time=timedelta(seconds=config.number("tool_seconds", 120, 1, 3_600) or 120),
        ask_people=config.flag("ask_people", True),
    )


def _knowledge(config: Config, ctx: RunContext) -> KnowledgeSettings:
    granted = tuple(one.knowledge_base_id for one in ctx.resources.knowledge_bases)
    rerankers = [one.model_id for one in ctx.resources.models if one.type == "rerank"]
    chosen = config.raw("rerank_model")
    return KnowledgeSettings(
        bases=granted or config.names("knowledge_bases"),
        as_tool=config.choice("knowledge_mode", ("context", "tool")) == "tool",
        top_k=config.whole("knowledge_top_k", 5, 1, 50),
        min_score=config.number("knowledge_min_score", 0, 0, 1_000_000) or 0.0,
        tokens=config.whole("knowledge_tokens", 2_000, 100, 200_000),
        rerank_model=str(chosen) if chosen in rerankers else next(iter(rerankers), ""),
        show_sources=config.flag("show_sources", True),
    )


def _prompt(value: Any) -> Sequence[ModelMessage]:
    """One text, or a list of `{role, content}`."""
    if not value:
        return (ModelMessage.system(DEFAULT_PROMPT),)
    if isinstance(value, str):
        return (ModelMessage.system(value),)
    messages = []
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, Mapping) or entry.get("role", "system") not in _ROLES:
            raise wrong("prompt", "must be a text or a list of {role, content}")
        role = _ROLES[entry.get("role", "system")]
        messages.append(ModelMessage(role, (text_part(str(entry.get("content", ""))),)))
    return tuple(messages)


def _models(config: Config, ctx: RunContext) -> Sequence[ModelResource]:
    """The model to ask first and those to fall back to, among what the run may use."""
    usable = {one.model_id: one for one in ctx.resources.models if one.type in ("", "llm")}
    chosen = config.raw("model") or {}
    if not isinstance(chosen, str | Mapping):
        raise wrong("model", "must be a model id, or {primary, fallbacks}")
    wanted = {"primary": chosen} if isinstance(chosen, str) else dict(chosen)
    primary = wanted.get("primary") or next(iter(usable), "")
    if not primary:
        raise RunFailure("model.not_found", "the agent has no model: choose one in its configuration (config.model)")
    if primary not in usable:
        raise RunFailure(
            "model.not_found",
            f"the model {primary!r} of config.model is not available to this run; choose another, or add it",
        )
    names = dict.fromkeys((primary, *(one for one in wanted.get("fallbacks") or () if one in usable)))
    return tuple(usable[name] for name in list(names)[: MAX_FALLBACKS + 1])
