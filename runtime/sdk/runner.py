"""Runners: what answers."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

from portway.runtime.sdk.host.api import HostApi
from portway.runtime.sdk.types.context import RunContext
from portway.runtime.sdk.types.results import RunResult


class AgentRunner(ABC):
    """A runner. A new instance is made for each run; what must last goes to `host.state` or `host.storage`."""

    @abstractmethod
    def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        """Written as `async def run(self, ctx, host)` with `yield`.

        A run that returns without a terminal result has completed. One that is cancelled sees
        `asyncio.CancelledError` and should end soon. An exception fails the run.
        """
