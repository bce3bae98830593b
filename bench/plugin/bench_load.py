"""A runner that does what its message says: `deltas COUNT`, `calls KIND COUNT IN_FLIGHT`, or `hold PATH`."""

import asyncio
import os
import time
from collections.abc import AsyncIterator

from portway.runtime.sdk import (
    AgentRunner,
    HostApi,
    MessageCompleted,
    Progress,
    RunContext,
    RunFailure,
    RunResult,
    StateScope,
    TextDelta,
)

CALLS = ("state", "history")


class Load(AgentRunner):
    async def run(self, ctx: RunContext, host: HostApi) -> AsyncIterator[RunResult]:
        match ctx.input.text.split():
            case ["deltas", count]:
                for number in range(int(count)):
                    yield TextDelta(f"{number:07} ", "text")
                yield MessageCompleted.of_text("done", message_key="done")
            case ["calls", kind, count, in_flight] if kind in CALLS:
                await host.state.set(StateScope.CONVERSATION, "bench", {"turn": 1})
                rate = await call_rate(host, kind, int(count), int(in_flight))
                yield MessageCompleted.of_text(f"{rate:.1f}", message_key="rate")
            case ["hold", path]:
                await host.state.set(StateScope.CONVERSATION, "bench", {"turn": 1})
                write_token(path, host.run_token)
                yield Progress("held")
                await asyncio.Event().wait()
            case other:
                raise RunFailure("runner.error", f"the bench runner does not know {other!r}")


async def call_rate(host: HostApi, kind: str, count: int, in_flight: int) -> float:
    """Calls a second with so many under way."""
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            if kind == "state":
                await host.state.get(StateScope.CONVERSATION, "bench")
            else:
                await host.history.page(limit=1)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(caller())
    return count / (time.perf_counter() - begun)


def write_token(path: str, token: str) -> None:
    """For the bench, which makes the same calls from outside; readable by nobody else, there at once as a whole."""
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token)
    os.rename(path + ".new", path)
