"""Tools that the runner itself has, beside those of the host. One of the host with the same name takes its place."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from portway.runtime.sdk import ToolResource, ToolResult


class OwnTool(Protocol):
    """Answers calls in the runner's own process."""

    @property
    def shown(self) -> ToolResource:
        """Name, description and schema for the model."""
        ...

    async def call(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Raises `BadArguments`, and the meanings of `portway.rpc.errors`; the model is told."""
        ...


def text_argument(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    return value.strip() if isinstance(value, str) else ""


def number_argument(arguments: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    """A whole number in bounds; what is none counts as not said."""
    value = arguments.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return max(least, min(most, int(value)))


def offered(host_tools: Sequence[ToolResource], own: Sequence[OwnTool]) -> tuple[Sequence[ToolResource], list[OwnTool]]:
    """What the model is offered, and those of its own tools that the runner answers."""
    names = {tool.name for tool in host_tools}
    kept = [tool for tool in own if tool.shown.name not in names]
    return (*host_tools, *(tool.shown for tool in kept)), kept
