"""The agent's configuration, and what it leaves to be chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from portway.runtime.sdk import ModelMessage, RunContext, RunFailure
from portway.runtime.sdk.types.content import MessageRole, text_part
from portway.runtime.sdk.types.resources import ModelResource, ToolResource

DEFAULT_PROMPT = (
    "You are a helpful assistant. Answer in the language of the person you talk to. Be brief unless asked for more. "
    "Use the tools you are given where they help, and say plainly when something did not work."
)
UNKNOWN_WINDOW_TOKENS = 16_000
MAX_ROUNDS = 200
_ROLES = {"system": MessageRole.SYSTEM, "user": MessageRole.USER, "assistant": MessageRole.ASSISTANT}


@dataclass(frozen=True, slots=True)
class Settings:
    """What one run goes by. `history_tokens` is what the history may take of the model's window."""

    prompt: Sequence[ModelMessage]
    model: ModelResource
    fallbacks: Sequence[str]
    tools: Sequence[ToolResource]
    temperature: float | None
    max_output_tokens: int | None
    max_rounds: int
    history_tokens: int
    tool_time: timedelta


def read_settings(ctx: RunContext) -> Settings:
    """Raises `RunFailure` with a message for the operator where the configuration cannot be used."""
    config = ctx.config
    model, fallbacks = _models(ctx)
    window = model.context_window
    wanted = _number(config, "history_tokens")
    longest = _number(config, "max_output_tokens")
    return Settings(
        prompt=_prompt(config.get("prompt")),
        model=model,
        fallbacks=fallbacks,
        tools=_tools(ctx) if model.tool_calling or not model.type else (),
        temperature=_number(config, "temperature"),
        max_output_tokens=int(longest) if longest else None,
        max_rounds=min(MAX_ROUNDS, int(_number(config, "max_rounds", 25) or 1)),
        history_tokens=int(wanted) if wanted else (window // 2 or UNKNOWN_WINDOW_TOKENS),
        tool_time=timedelta(seconds=_number(config, "tool_seconds", 120) or 120),
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
            raise RunFailure("runner.error", "config.prompt must be a text or a list of {role, content}; correct it")
        role = _ROLES[entry.get("role", "system")]
        messages.append(ModelMessage(role, (text_part(str(entry.get("content", ""))),)))
    return tuple(messages)


def _models(ctx: RunContext) -> tuple[ModelResource, Sequence[str]]:
    """The model to ask first and those to fall back to, among what the run may use."""
    usable = {one.model_id: one for one in ctx.resources.models if one.type in ("", "llm")}
    chosen = ctx.config.get("model") or {}
    wanted = {"primary": chosen} if isinstance(chosen, str) else dict(chosen)
    primary = wanted.get("primary") or next(iter(usable), "")
    if not primary:
        raise RunFailure("model.not_found", "the agent has no model: choose one in its configuration (config.model)")
    if primary not in usable:
        raise RunFailure(
            "model.not_found",
            f"the model {primary!r} of config.model is not available to this run; choose another, or add it",
        )
    fallbacks = [one for one in wanted.get("fallbacks") or () if one in usable and one != primary]
    return usable[primary], tuple(fallbacks)


def _tools(ctx: RunContext) -> Sequence[ToolResource]:
    wanted = ctx.config.get("tools")
    return tuple(tool for tool in ctx.resources.tools if not wanted or tool.name in wanted)


def _number(config: Mapping[str, Any], name: str, default: float | None = None) -> float | None:
    value = config.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise RunFailure("runner.error", f"config.{name} must be a number of 0 or more; correct it")
    return value
