"""A provider that says what a test wrote down, in order, and counts what it is asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from portway.server.models.provider import StreamingProvider
from portway.server.models.types import ModelEvent, ModelRequest


@dataclass(frozen=True)
class Script:
    """One answer: its events, then (where set) a wait, then (where set) a failure instead of the end."""

    events: tuple[ModelEvent, ...] = ()
    wait: asyncio.Event | None = None
    error: Exception | None = None


@dataclass
class Asked:
    """What the provider saw."""

    models: list[str] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    started: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))


class ScriptedProvider(StreamingProvider):
    """Fails when it is asked more often than it has scripts."""

    def __init__(self, provider_id: str, *scripts: Script) -> None:
        super().__init__(provider_id)
        self._scripts = deque(scripts)
        self.asked = Asked()

    async def stream(self, model: str, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        assert self._scripts, f"provider {self.provider_id} was asked once more than expected, for {model}"
        script = self._scripts.popleft()
        self.asked.models.append(model)
        self.asked.running += 1
        self.asked.most_running = max(self.asked.most_running, self.asked.running)
        self.asked.started.release()
        try:
            for event in script.events:
                yield event
            if script.wait is not None:
                await script.wait.wait()
            if script.error is not None:
                raise script.error
        finally:
            self.asked.running -= 1

    def settle(self) -> None:
        """Fails when a script was never played."""
        assert not self._scripts, f"provider {self.provider_id} has {len(self._scripts)} answers left"
