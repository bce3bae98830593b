"""A runner that is under way until it is told something."""

from collections.abc import AsyncIterator

from portway.runtime.sdk import AgentRunner, HostApi, MessageCompleted, RunContext, RunResult, TextDelta


class Neighbour(AgentRunner):
    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        yield TextDelta("here")
        async for message in host.steering:
            yield MessageCompleted.of_text(message.input.text)
            return
