"""What authors write: runners and tools."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable

from portway.rpc.errors import Reason, WrongState
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

    def __init__(
        self,
        effect_id: str,
        run_id: str,
        write: Callable[[str], Awaitable[None]],
        report: Callable[[str, float | None], Awaitable[None]] | None = None,
    ) -> None:
        self.effect_id = effect_id
        self.run_id = run_id
        self._write = write
        self._report = report

    async def output(self, text: str) -> None:
        """Shows a piece of output while the tool runs."""
        await self._write(text)

    async def progress(self, text: str, fraction: float | None = None) -> None:
        """Shows a short line about how far the tool is; `fraction` is 0 to 1 where it is known."""
        if self._report is not None:
            await self._report(text, fraction)


class Tool(ABC):
    """A tool. A new instance is made for each call."""

    @abstractmethod
    async def call(self, arguments: Json, call: ToolCall) -> ToolResult | str:
        """The result; an exception becomes a result with `is_error`. It is cancelled where nobody waits any more."""

    async def reconcile(self, arguments: Json, call: ToolCall) -> ToolResult | str:
        """For tools whose manifest says `idempotency: reconcilable`: what became of the earlier call with this
        `effect_id`, without acting. Raises `WrongState` (`EFFECT_UNKNOWN`) where it cannot be told."""
        raise WrongState("this tool cannot tell what became of an earlier call", reason=Reason.EFFECT_UNKNOWN)
