"""What authors write: runners and tools."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable

from portway.runtime.sdk.host.api import HostApi
from portway.runtime.sdk.types.context import RunContext
from portway.runtime.sdk.types.convert import Json
from portway.runtime.sdk.types.pulled import ToolResult
from portway.runtime.sdk.types.results import RunResult


class AgentRunner(ABC):
    """A runner. A new instance is made for each run; what must last goes to `host.state` or `host.storage`."""

    @abstractmethod
    def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        """Written as `async def run(self, ctx, host)` with `yield`.

        A run that returns without a terminal result has completed. One that is cancelled sees
        `asyncio.CancelledError` and should end soon. An exception fails the run.
        """


class ToolCall:
    """A call of a tool. A repeated call has the same `effect_id`; `run_id` is empty outside runs."""

    def __init__(self, effect_id: str, run_id: str, write: Callable[[str], Awaitable[None]]) -> None:
        self.effect_id = effect_id
        self.run_id = run_id
        self._write = write

    async def output(self, text: str) -> None:
        """Shows a piece of output while the tool runs."""
        await self._write(text)


class Tool(ABC):
    """A tool. A new instance is made for each call."""

    @abstractmethod
    async def call(self, arguments: Json, call: ToolCall) -> ToolResult | str:
        """The result; an exception becomes a result with `is_error`."""
