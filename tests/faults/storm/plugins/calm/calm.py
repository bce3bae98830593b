"""A plugin that nobody kills: it must not notice that another one is."""

import os
from collections.abc import AsyncIterator

from portway.runtime.sdk import AgentRunner, HostApi, MessageCompleted, RunContext, RunResult


class Calm(AgentRunner):
    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        yield MessageCompleted.of_text(f"calm {os.getpid()}")
