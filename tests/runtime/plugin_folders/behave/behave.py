"""A runner that does what the first word of the message says, and a tool."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

from portway.runtime.sdk import (
    AgentRunner,
    FinishReason,
    HostApi,
    MessageCompleted,
    ModelMessage,
    ModelRequest,
    ModelText,
    Progress,
    ResultRefused,
    RunCompleted,
    RunContext,
    RunFailure,
    RunResult,
    StateScope,
    StorageArea,
    TextDelta,
    Tool,
    ToolCall,
    ToolResult,
)

Results = AsyncIterator[RunResult]


async def ok(rest: str, ctx: RunContext, host: HostApi) -> Results:
    yield MessageCompleted.of_text(rest)
    yield RunCompleted()


async def returns(rest: str, ctx: RunContext, host: HostApi) -> Results:
    """Ends without a terminal result of its own."""
    yield MessageCompleted.of_text(rest)


async def streamed(rest: str, ctx: RunContext, host: HostApi) -> Results:
    for word in rest.split():
        yield TextDelta(word, "m")
    yield MessageCompleted.of_text("".join(rest.split()), message_key="m")
    yield RunCompleted(FinishReason.STOP)


async def empty(rest: str, ctx: RunContext, host: HostApi) -> Results:
    yield RunCompleted()


async def malformed(rest: str, ctx: RunContext, host: HostApi) -> Results:
    yield {"text": "a dict is no result"}  # type: ignore[misc]


async def wrong_field(rest: str, ctx: RunContext, host: HostApi) -> Results:
    yield TextDelta(5)  # type: ignore[arg-type]


async def fail(rest: str, ctx: RunContext, host: HostApi) -> Results:
    yield TextDelta("about to fail")
    raise RunFailure("harness.cli_missing", "the program is not installed; install it", retryable=True)


async def raises(rest: str, ctx: RunContext, host: HostApi) -> Results:
    yield TextDelta("about to raise")
    raise ValueError("token=pw_admin_0123456789abcdef0123456789abcdef_secret was wrong")


async def hang(rest: str, ctx: RunContext, host: HostApi) -> Results:
    yield TextDelta("waiting")
    await asyncio.Event().wait()


async def tidy(rest: str, ctx: RunContext, host: HostApi) -> Results:
    """Still says something when it is cancelled."""
    yield TextDelta("waiting")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        yield MessageCompleted.of_text("stopped half-way")
        raise


async def stubborn(rest: str, ctx: RunContext, host: HostApi) -> Results:
    """Ignores every cancel."""
    yield TextDelta("waiting")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


async def block(rest: str, ctx: RunContext, host: HostApi) -> Results:
    """Blocks the loop: not even a ping is answered."""
    yield TextDelta("blocking")
    await asyncio.sleep(0.05)
    print("blocked")
    time.sleep(3600)  # noqa: ASYNC251 - it blocks on purpose


async def crash(rest: str, ctx: RunContext, host: HostApi) -> Results:
    yield TextDelta("crashing")
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.Event().wait()


async def leave(rest: str, ctx: RunContext, host: HostApi) -> Results:
    """Ends its process with a code."""
    yield TextDelta("leaving")
    await asyncio.sleep(0.05)
    os._exit(7)


async def flood(rest: str, ctx: RunContext, host: HostApi) -> Results:
    for number in range(int(rest)):
        yield TextDelta(f"{number} ", "m")
    yield RunCompleted()


async def oversize(rest: str, ctx: RunContext, host: HostApi) -> Results:
    yield TextDelta("x" * (1024 * 1024 + 1))


async def oversize_caught(rest: str, ctx: RunContext, host: HostApi) -> Results:
    try:
        yield TextDelta("x" * (1024 * 1024 + 1))
    except ResultRefused:
        yield MessageCompleted.of_text("said something shorter")


async def after_terminal(rest: str, ctx: RunContext, host: HostApi) -> Results:
    yield RunCompleted()
    yield MessageCompleted.of_text("nobody hears this")


async def history(rest: str, ctx: RunContext, host: HostApi) -> Results:
    page = await host.history.page(before=ctx.context.latest_cursor, limit=int(rest or "50"))
    yield MessageCompleted.of_text("|".join(item.content for item in page.items))


async def not_granted(rest: str, ctx: RunContext, host: HostApi) -> Results:
    await host.history.search("anything")
    yield RunCompleted()


async def model(rest: str, ctx: RunContext, host: HostApi) -> Results:
    request = ModelRequest("model", (ModelMessage.user(rest),))
    async for event in host.models.stream(request):
        if isinstance(event, ModelText):
            yield TextDelta(event.text)


async def tool(rest: str, ctx: RunContext, host: HostApi) -> Results:
    name, _, text = rest.partition(" ")
    result = await host.tools.call(name, {"text": text}, call_id="t1-0", within=timedelta(seconds=5))
    yield MessageCompleted.of_text(result.text)


async def many_calls(rest: str, ctx: RunContext, host: HostApi) -> Results:
    pages = await asyncio.gather(*(host.history.page(limit=1) for _ in range(int(rest))))
    yield MessageCompleted.of_text(str(len(pages)))


async def state(rest: str, ctx: RunContext, host: HostApi) -> Results:
    version = await host.state.set(StateScope.CONVERSATION, "key", {"text": rest}, expected_version=0)
    found = await host.state.get(StateScope.CONVERSATION, "key")
    missing = await host.state.get(StateScope.CONVERSATION, "other")
    yield MessageCompleted.of_text(f"{version} {found.value if found else None} {missing}")


async def storage(rest: str, ctx: RunContext, host: HostApi) -> Results:
    data = rest.encode() * int(1_500_000 / len(rest))
    await host.storage.set(StorageArea.PLUGIN, "big", data)
    back = await host.storage.get(StorageArea.PLUGIN, "big")
    yield MessageCompleted.of_text(str(back == data))


async def artifact(rest: str, ctx: RunContext, host: HostApi) -> Results:
    made = await host.artifacts.create(rest.encode() * 100_000, name="long.txt", mime_type="text/plain")
    back = await host.artifacts.read(made.artifact_id)
    yield MessageCompleted.of_text(f"{made.name} {made.size} {back == rest.encode() * 100_000}")


async def steer(rest: str, ctx: RunContext, host: HostApi) -> Results:
    yield TextDelta("listening")
    async for message in host.steering:
        yield MessageCompleted.of_text(message.input.text)
        return


async def prints(rest: str, ctx: RunContext, host: HostApi) -> Results:
    print(rest)
    print("to the error stream", file=sys.stderr)
    yield RunCompleted()


async def prints_much(rest: str, ctx: RunContext, host: HostApi) -> Results:
    for number in range(int(rest)):
        print("line", number)
    yield RunCompleted()


async def environment(rest: str, ctx: RunContext, host: HostApi) -> Results:
    yield MessageCompleted.of_text("\n".join(f"{key}={value}" for key, value in sorted(os.environ.items())))


async def about(rest: str, ctx: RunContext, host: HostApi) -> Results:
    yield MessageCompleted.of_text(f"{os.getpid()} {ctx.run_id} {ctx.attempt} {ctx.config.get('colour')}")


async def memory(rest: str, ctx: RunContext, host: HostApi) -> Results:
    block = bytearray(int(rest) * 1024 * 1024)
    yield MessageCompleted.of_text(str(len(block)))


async def orphan(rest: str, ctx: RunContext, host: HostApi) -> Results:
    """Starts a process outside of its group, and one inside, and stays."""
    outside = subprocess.Popen(["sleep", "600"], start_new_session=True)  # noqa: ASYNC220 - a child that is left behind
    inside = subprocess.Popen(["sleep", "600"])  # noqa: ASYNC220 - likewise
    yield Progress(f"{outside.pid} {inside.pid}")
    await asyncio.Event().wait()


_BEHAVIOURS: dict[str, Callable[[str, RunContext, HostApi], Results]] = {
    behaviour.__name__: behaviour
    for behaviour in (
        *(ok, returns, streamed, empty, malformed, wrong_field, fail, raises, hang, tidy, stubborn, block, crash),
        *(leave, flood, oversize, oversize_caught, after_terminal, history, not_granted, model, tool, many_calls),
        *(state, storage, artifact, steer, prints, prints_much, environment, about, memory, orphan),
    )
}


class Behave(AgentRunner):
    def run(self, ctx: RunContext, host: HostApi) -> Results:
        name, _, rest = ctx.input.text.partition(" ")
        return _BEHAVIOURS[name](rest, ctx, host)


class Shout(Tool):
    async def call(self, arguments: dict[str, str], call: ToolCall) -> ToolResult | str:  # type: ignore[override]
        if not arguments["text"]:
            raise ValueError("nothing to shout")
        await call.output("taking a breath")
        return arguments["text"].upper() + "!"
