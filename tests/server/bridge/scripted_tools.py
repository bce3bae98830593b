"""A source of tools for tests: each is a name and what it does with a call."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from portway.rpc.errors import Reason, WrongState
from portway.server.agents.types import ResourcePolicy
from portway.server.effects.types import Idempotency
from portway.server.tools.types import (
    Availability,
    ToolCall,
    ToolEvent,
    ToolFile,
    ToolProgress,
    ToolResult,
    ToolScope,
    ToolSpec,
    ToolType,
)
from tests.server.hosting import Hosted

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6364f8cf500f0003860180"
    "5a347d6a0000000049454e44ae426082"
)
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
Work = Callable[[ToolCall], AsyncIterator[ToolEvent]]


@dataclass
class ScriptedTools:
    """Implements `ToolSource`. `calls` are those that began, `ended` those that ended, however they did."""

    works: dict[str, Work] = field(default_factory=dict)
    calls: list[ToolCall] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    source_id: str = "plugin:tests/tools"

    def __post_init__(self) -> None:
        self.works |= {"echo": self._echo, "hold": self._hold, "picture": self._picture, "fail": self._fail}
        self.works |= {"slow": self._slow, "event": self._echo, "a name/with odd. letters": self._echo}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.source_id}/{name}" for name in self.works)

    async def given_to(self, host: Hosted, **spec: Any) -> None:
        """Registers them, and gives the host's agent all of them."""
        host.parts.tools.register(self)
        policy = spec.pop("resource_policy", ResourcePolicy(tools=self.names))
        await host.set_agent(resource_policy=policy, **spec)

    def specs(self) -> tuple[ToolSpec, ...]:
        return tuple(
            ToolSpec(name, ToolType.PLUGIN, f"Does {name}.", SCHEMA, Idempotency.READ_ONLY) for name in self.names
        )

    def availability(self) -> Availability:
        return Availability(True)

    async def call(self, scope: ToolScope, call: ToolCall) -> AsyncGenerator[ToolEvent, None]:
        self.calls.append(call)
        self.begun.set()
        try:
            async for event in self.works[call.name.removeprefix(f"{self.source_id}/")](call):
                yield event
        finally:
            self.ended.append(call.name)

    async def reconcile(self, scope: ToolScope, call: ToolCall) -> ToolResult:
        raise WrongState("nobody knows", reason=Reason.EFFECT_UNKNOWN)

    async def _echo(self, call: ToolCall) -> AsyncIterator[ToolEvent]:
        yield ToolResult(f"echo: {call.arguments.get('text', '')}", {"said": call.arguments.get("text", "")})

    async def _hold(self, call: ToolCall) -> AsyncIterator[ToolEvent]:
        await self.go_on.wait()
        yield ToolResult("held")

    async def _slow(self, call: ToolCall) -> AsyncIterator[ToolEvent]:
        for done in (0.25, 0.5, 0.75):
            yield ToolProgress(f"{done:.0%} done", done)
        await self.go_on.wait()
        yield ToolResult("slow, and done")

    async def _picture(self, call: ToolCall) -> AsyncIterator[ToolEvent]:
        files = (ToolFile("dot.png", "image/png", PIXEL), ToolFile("notes.txt", "text/plain", b"some notes"))
        yield ToolResult("a picture and notes", files=files)

    async def _fail(self, call: ToolCall) -> AsyncIterator[ToolEvent]:
        yield ToolResult("it did not work", is_error=True)
