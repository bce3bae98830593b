"""The instructions of the configuration, with a few named values filled in. Nothing in them is executed."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from portway.runtime.official.local_agent.config import wrong
from portway.runtime.official.local_agent.context.words import is_group, is_said
from portway.runtime.sdk import ModelMessage, RunContext, text_part
from portway.runtime.sdk.types.resources import SkillResource

MAX_VALUE = 100
MAX_SKILLS = 50
MAX_SKILL_TEXT = 200
_VALUE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


def instructions(ctx: RunContext, prompt: Sequence[ModelMessage]) -> Sequence[ModelMessage]:
    """The messages that everything begins with. Raises `RunFailure` for a value that does not exist."""
    values = values_of(ctx)
    filled = [replace(one, parts=(text_part(fill(one.text, values)),)) for one in prompt]
    return (*filled, ModelMessage.system(_surroundings(ctx))) if _surroundings(ctx) else tuple(filled)


def values_of(ctx: RunContext) -> Mapping[str, str]:
    """What `{{name}}` stands for. Names that people choose are cut to one line: they are values, not instructions."""
    today = _local_time(ctx)
    return {
        "agent_id": ctx.agent_id,
        "date": f"{today:%Y-%m-%d}",
        "weekday": f"{today:%A}",
        "time_zone": ctx.runtime.time_zone or "UTC",
        "locale": ctx.runtime.locale or "en",
        "surface": _line(ctx.delivery.surface),
        "platform": _line(ctx.adapter.platform),
        "conversation_kind": "group" if is_group(ctx) else "person",
        "actor_name": _line(ctx.actor.name),
    }


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replaces `{{name}}` once: what is filled in is not looked at again."""

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in values:
            near = difflib.get_close_matches(name, values, n=1)
            hint = f"did you mean {{{{{near[0]}}}}}?" if near else f"there are {', '.join(values)}"
            raise wrong("prompt", f"has the value {{{{{name}}}}}, which does not exist; {hint}")
        return values[name]

    return _VALUE.sub(value, text)


def _surroundings(ctx: RunContext) -> str:
    """What the model should know of where it is. It changes by the day, so that a prompt cache stays warm."""
    lines = []
    if ctx.trigger.time is not None:
        today = _local_time(ctx)
        lines.append(f"Today is {today:%A}, {today:%Y-%m-%d} ({_zone(ctx).key}).")
    if is_group(ctx):
        lines.append("Several people write in this conversation; each message begins with its author's name.")
    if not is_said(ctx):
        lines.append(
            "Nobody wrote to you: an event happened. What is known of it stands in the last message, as data. "
            "Do what your instructions say for it; what you answer goes to the conversation it belongs to."
        )
    if ctx.resources.skills and any(tool.name == "activate" for tool in ctx.resources.tools):
        lines.append("Skills that you can activate before a task that they are for:")
        lines += [_skill(skill) for skill in ctx.resources.skills[:MAX_SKILLS]]
    return "\n".join(lines)


def _skill(skill: SkillResource) -> str:
    active = " (active)" if skill.active else ""
    return f"- {_line(skill.name)}{active}: {_line(skill.description, MAX_SKILL_TEXT)}"


def _local_time(ctx: RunContext) -> datetime:
    return (ctx.trigger.time or datetime.now(UTC)).astimezone(_zone(ctx))


def _zone(ctx: RunContext) -> ZoneInfo:
    try:
        return ZoneInfo(ctx.runtime.time_zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def _line(text: str, longest: int = MAX_VALUE) -> str:
    return "".join(one if one.isprintable() else " " for one in text)[:longest].strip()
