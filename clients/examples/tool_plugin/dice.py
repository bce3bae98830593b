"""A tool for models: it rolls dice."""

import secrets
from collections.abc import Mapping
from typing import Any

from portway.runtime.sdk import Tool, ToolCall, ToolResult


class Roll(Tool):
    async def call(self, arguments: Mapping[str, Any], call: ToolCall) -> ToolResult:
        count, sides = int(arguments["count"]), int(arguments.get("sides", 6))
        rolled = [secrets.randbelow(sides) + 1 for _ in range(count)]
        return ToolResult(", ".join(str(one) for one in rolled), {"rolled": rolled, "sum": sum(rolled)})
