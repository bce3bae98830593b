"""What every tool must do. A tool named `conformance` plays the words of `WORDS`: its arguments are `word` and `text`.

`ok` (answers `text`), `error` (says that it failed), `raises`, `hang` (until it is cancelled, after a line of
progress), `stubborn` (the same, and ignores that), `crash`, `oversize` (a result of 1 MiB and 1 byte), `flood` (`text`
lines of progress), `file` (a file with `text`), `caller` (answers the workspace and run of who asks).
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from portway.rpc.errors import (
    DeadlineExceeded,
    InternalError,
    NotFound,
    PayloadTooLarge,
    PortwayError,
    Reason,
    WrongState,
)
from portway.rpc.status import error_from_rpc
from portway.runtime.kit.behaviours import expect
from portway.runtime.kit.components.trying import ComponentBehaviour, Tried, refusal
from portway.runtime.kit.subject import Differs
from portway.v1 import run_pull_pb2
from portway.v1 import runtime_pb2 as pb

FLOOD = 10_000
_LOOK = 0.05


class Called:
    """One call and what came of it."""

    def __init__(self, tried: Tried, arguments: Mapping[str, Any], *, reconcile: bool = False) -> None:
        request = pb.RuntimeServiceCallToolRequest(
            name=tried.end.component_id, effect_id="eff_kit", run_id="run_kit", reconcile=reconcile
        )
        request.arguments.update(dict(arguments))
        request.caller.workspace_id, request.caller.run_id = tried.end.workspace_id, "run_kit"
        self._stub = tried.subject.stub
        self._request = request
        self.events: list[pb.RuntimeServiceCallToolResponse] = []

    async def result(self, seconds: float | None = None) -> run_pull_pb2.ToolResult:
        """Raises what the call ended with."""
        call: Any = self._stub.CallTool(self._request, timeout=seconds)
        try:
            async for event in call:
                self.events.append(event)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from None
        finally:
            call.cancel()
        return self.events[-1].result

    async def until_first(self) -> None:
        """The first thing it says; then it is left."""
        call: Any = self._stub.CallTool(self._request)
        try:
            if await call.read() is grpc.aio.EOF:
                raise Differs("it ended without a word")
        finally:
            call.cancel()


def said(tried: Tried, word: str, text: str = "") -> Called:
    return Called(tried, {"word": word, "text": text})


async def offers(tried: Tried) -> None:
    page = await tried.subject.stub.ListTools(pb.RuntimeServiceListToolsRequest(page_size=200))
    if tried.end.component_id not in {tool.name for tool in page.tools}:
        raise Differs(f"{tried.end.component_id} is not among the tools")


async def never_acts_to_reconcile(tried: Tried) -> None:
    """Whatever the tool is: to ask what became of a call that never was is safe."""
    try:
        result = await Called(tried, {}, reconcile=True).result(30.0)
    except PortwayError as error:
        expect(error.reason, Reason.EFFECT_UNKNOWN, "how it says that it does not know")
        if not isinstance(error, WrongState):
            raise Differs(f"it does not know, and says {type(error).__name__}") from None
    else:
        raise Differs(f"it knows the result of a call that never was: {result.text!r}")


async def is_found_by_its_whole_name(tried: Tried) -> None:
    request = pb.RuntimeServiceCallToolRequest(name=f"{tried.end.component_id}-other")
    call: Any = tried.subject.stub.CallTool(request)
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        expect(type(error_from_rpc(error)), NotFound, "a tool that is not there")
    else:
        raise Differs("a tool that is not there answers")


async def answers(tried: Tried) -> None:
    result = await said(tried, "ok", "hello").result()
    expect((result.text, result.is_error), ("hello", False), "its answer")


async def says_that_it_failed(tried: Tried) -> None:
    result = await said(tried, "error").result()
    expect(result.is_error, True, "whether it says that it failed")
    if not result.text:
        raise Differs("it does not say why")
    await _is_healthy(tried)


async def survives_its_own_errors(tried: Tried) -> None:
    called = said(tried, "raises")
    try:
        expect((await called.result()).is_error, True, "what an error of its own is")
    except InternalError:
        # A program without an SDK may say so, too.
        pass
    await _is_healthy(tried)


async def ends_with_its_deadline(tried: Tried) -> None:
    before = (await said(tried, "ok", "once").result()).text
    await refusal("a call whose time is over", said(tried, "hang").result(1.0), DeadlineExceeded)
    expect(before, "once", "its answer before")
    await _is_healthy(tried)


async def ends_when_it_is_left(tried: Tried) -> None:
    await said(tried, "hang").until_first()
    await _is_healthy(tried)


async def is_replaced_when_it_ignores_a_cancel(tried: Tried) -> None:
    await said(tried, "stubborn").until_first()
    generation = await tried.generation()
    while await tried.generation() == generation:  # noqa: ASYNC110 - the runtime replaces it in its own time
        await asyncio.sleep(_LOOK)
    await _is_healthy(tried)


async def comes_back_after_a_crash(tried: Tried) -> None:
    error = await refusal("a call whose process is killed", said(tried, "crash").result(), PortwayError)
    expect(error.reason, Reason.RUNNER_CRASHED, "what a crash is told as")
    await _is_healthy(tried)


async def says_nothing_larger(tried: Tried) -> None:
    try:
        result = await said(tried, "oversize").result()
    except PayloadTooLarge:
        pass
    else:
        expect(result.is_error, True, "what a result over 1 MiB is")
        if result.ByteSize() > 1024 * 1024:
            raise Differs(f"its result has {result.ByteSize()} bytes")
    await _is_healthy(tried)


async def reports_progress_in_order(tried: Tried) -> None:
    called = said(tried, "flood", str(FLOOD))
    await called.result()
    lines = [event.progress.text for event in called.events if event.HasField("progress")]
    if lines != [str(number) for number in range(FLOOD)]:
        raise Differs(f"{len(lines)} lines of progress came, or not in order, where {FLOOD} were due")


async def gives_files(tried: Tried) -> None:
    called = said(tried, "file", "hello" * 100_000)
    await called.result()
    pieces = [event.file for event in called.events if event.HasField("file")]
    expect(b"".join(piece.data for piece in pieces).decode(), "hello" * 100_000, "the file")
    expect([piece.last for piece in pieces], [False] * (len(pieces) - 1) + [True], "the end of the file")
    if not pieces[0].name or not pieces[0].mime_type:
        raise Differs("the first piece of a file has no name or type")


async def knows_who_asks(tried: Tried) -> None:
    expect((await said(tried, "caller").result()).text, f"{tried.end.workspace_id} run_kit", "who it says that asks")


async def does_many_at_once(tried: Tried) -> None:
    answered = await asyncio.gather(*(said(tried, "ok", str(number)).result() for number in range(40)))
    expect([one.text for one in answered], [str(number) for number in range(40)], "its answers")


async def _is_healthy(tried: Tried) -> None:
    expect((await said(tried, "ok", "healthy").result()).text, "healthy", "the next call's answer")


GENERAL: Sequence[ComponentBehaviour] = (
    ComponentBehaviour("is listed", offers),
    ComponentBehaviour("never acts when it is asked what became of a call", never_acts_to_reconcile),
    ComponentBehaviour("is found by its whole name only", is_found_by_its_whole_name),
)
WORDS: Sequence[ComponentBehaviour] = (
    ComponentBehaviour("ok: answers", answers),
    ComponentBehaviour("error: says that it failed, and why", says_that_it_failed),
    ComponentBehaviour("raises: an error of its own ends only its call", survives_its_own_errors),
    ComponentBehaviour("hang: ends with its deadline", ends_with_its_deadline),
    ComponentBehaviour("hang: ends when nobody waits", ends_when_it_is_left),
    ComponentBehaviour("stubborn: is replaced when it goes on after a cancel", is_replaced_when_it_ignores_a_cancel),
    ComponentBehaviour("crash: comes back", comes_back_after_a_crash),
    ComponentBehaviour("oversize: says nothing larger than 1 MiB", says_nothing_larger),
    ComponentBehaviour("flood: ten thousand lines of progress arrive in order", reports_progress_in_order),
    ComponentBehaviour("file: gives a file in pieces", gives_files),
    ComponentBehaviour("caller: knows who asks, from the host", knows_who_asks),
    ComponentBehaviour("has many calls under way at once", does_many_at_once),
)
"""What tools named `conformance` do besides."""
