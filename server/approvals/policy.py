"""What needs a person's approval, by the policies of an agent."""

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

from portway.server.agents.types import AgentSpec
from portway.server.bindings.patterns import is_found

COMMAND_TOOL = "exec"


def may_wait(spec: AgentSpec, allowed: Collection[str]) -> bool:
    """Whether a run of the agent, with these permissions, may ever wait for a person."""
    return bool(
        "approvals_request" in allowed
        or spec.box_policy.approved_commands
        or spec.resource_policy.approved_tools
        or spec.delivery_policy.approved_actions
    )


def command_needs(spec: AgentSpec, command: str) -> bool:
    """A command line of the box."""
    return any(pattern == "*" or is_found(pattern, command) for pattern in spec.box_policy.approved_commands)


def tool_needs(spec: AgentSpec, tool: str, command: str = "") -> bool:
    """A call of a tool; `command` is the command line of the tool `exec`."""
    if matches(spec.resource_policy.approved_tools, tool):
        return True
    return tool == COMMAND_TOOL and command_needs(spec, command)


def action_needs(spec: AgentSpec, action: str) -> bool:
    """A platform action."""
    return matches(spec.delivery_policy.approved_actions, action)


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether any pattern is the name; `*` stands for anything."""
    return any(_compiled(pattern).fullmatch(name) is not None for pattern in patterns)


@lru_cache(maxsize=1_024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(piece) for piece in re.split(r"\*+", pattern)), re.DOTALL)
