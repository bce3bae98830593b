"""The smallest plugin that does something: it streams what it was told and counts in the conversation's state."""

import re
from collections.abc import AsyncIterator

from portway.runtime.sdk import AgentRunner, HostApi, MessageCompleted, RunContext, RunResult, StateScope, TextDelta


class Echo(AgentRunner):
    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        kept = await host.state.get(StateScope.CONVERSATION, "echo.count")
        count = (kept.value if kept else 0) + 1
        await host.state.set(StateScope.CONVERSATION, "echo.count", count)

        answer = f"{ctx.config.get('prefix', 'You said:')} {ctx.input.text} ({count})"
        for word in re.findall(r"\s*\S+", answer):
            yield TextDelta(word)
        yield MessageCompleted.of_text(answer)
