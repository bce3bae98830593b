"""A runner of one plugin that calls a tool of another."""

import json
from collections.abc import AsyncIterator

from portway.rpc.errors import PortwayError
from portway.runtime.sdk import AgentRunner, HostApi, MessageCompleted, RunContext, RunResult


class Asker(AgentRunner):
    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        try:
            result = await host.tools.call("plugin:tests/watcher/notes", json.loads(ctx.input.text))
        except PortwayError as error:
            yield MessageCompleted.of_text(f"{type(error).__name__}: {error.message}")
            return
        told = {"text": result.text, "data": dict(result.data or {}), "files": [one.size for one in result.artifacts]}
        yield MessageCompleted.of_text(json.dumps(told))
