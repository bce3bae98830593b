"""The client's side of the protocol: what an agent tells becomes results, what it asks is decided elsewhere."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from acp import RequestError
from acp.schema import (
    AgentMessageChunk,
    AgentThoughtChunk,
    AllowedOutcome,
    DeniedOutcome,
    PermissionOption,
    RequestPermissionResponse,
    TextContentBlock,
    ToolCallProgress,
    ToolCallStart,
    ToolCallUpdate,
)

from portway.runtime.harness.runner import MESSAGE_KEY
from portway.runtime.sdk import (
    Progress,
    ReasoningDelta,
    RunResult,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
)
from portway.runtime.sdk.types.results import RunError

# What may wait for the run's stream before the program is read on.
MAX_WAITING = 256
_TOOL_TEXT = 16_000
_ENDED = ("completed", "failed")
_PREFERRED = {True: ("allow_once", "allow_always"), False: ("reject_once", "reject_always")}

# Whether what an agent asks for is allowed, and why; the option is the one that is chosen then.
Decide = Callable[[ToolCallUpdate, PermissionOption], Awaitable[tuple[bool, str]]]


class Talk:
    """Implements the client of `acp`. While `muted`, what is told is of an earlier time: a session that is loaded."""

    def __init__(self, decide: Decide) -> None:
        self.said = ""
        self.muted = True
        # What was asked for last and not allowed: agents may end their turn there without a word.
        self.refused = ""
        self._decide = decide
        self._results: deque[RunResult] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._tools: dict[str, str] = {}
        self._gap = False

    def wake(self) -> None:
        self._changed.set()

    async def room(self) -> None:
        await self._room.wait()

    async def next(self, over: "asyncio.Future[Any]") -> RunResult | None:
        """The next result; None when `over` is done and nothing is left. `wake` is called when it is."""
        while not self._results:
            if over.done():
                return None
            self._changed.clear()
            await self._changed.wait()
        if len(self._results) <= MAX_WAITING // 2:
            self._room.set()
        return self._results.popleft()

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        if self.muted:
            return
        match update:
            case AgentMessageChunk(content=TextContentBlock(text=text)) if text:
                gap = "\n\n" if self._gap and self.said else ""
                self._gap = False
                self.said += gap + text
                self.tell(TextDelta(gap + text, MESSAGE_KEY))
            case AgentThoughtChunk(content=TextContentBlock(text=text)) if text:
                self.tell(ReasoningDelta(text, MESSAGE_KEY))
            case ToolCallStart():
                self._gap = True
                self._started(update)
            case ToolCallProgress():
                self._progressed(update)
            case _:
                # Plans, modes, commands, usage: nothing that a conversation shows.
                pass

    def _started(self, update: ToolCallStart) -> None:
        if update.tool_call_id in self._tools:
            return
        name = update.title or update.kind or "tool"
        self._tools[update.tool_call_id] = name
        arguments = update.raw_input if isinstance(update.raw_input, dict) else {}
        self.tell(ToolCallStarted(update.tool_call_id, name, arguments))
        if update.status in _ENDED:
            self._done(update.tool_call_id, update.status, update)

    def _progressed(self, update: ToolCallProgress) -> None:
        if update.status in _ENDED and update.tool_call_id in self._tools:
            self._done(update.tool_call_id, update.status, update)

    def _done(self, call_id: str, status: str, update: Any) -> None:
        told = _text_of(update)[:_TOOL_TEXT]
        error = RunError("tool.error", told[:500]) if status == "failed" else None
        self.tell(ToolCallCompleted(call_id, self._tools.pop(call_id), told, error))

    async def request_permission(
        self, session_id: str, tool_call: ToolCallUpdate, options: list[PermissionOption], **_: Any
    ) -> RequestPermissionResponse:
        """For this once where the agent offers that. Without an option to allow there is nothing to decide."""
        allowing = _option(options, True)
        allowed, why = False, "the agent offers no way to allow it"
        if allowing is not None:
            allowed, why = await self._decide(tool_call, allowing)
        chosen = allowing if allowed else _option(options, False)
        what = tool_call.title or tool_call.tool_call_id
        if not allowed:
            self.refused = f"{what[:200]} ({why[:200]})"
        self.tell(Progress(f"{'allowed' if allowed else 'refused'}: {what[:200]} ({why[:200]})"))
        if chosen is None:
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        return RequestPermissionResponse(outcome=AllowedOutcome(option_id=chosen.option_id, outcome="selected"))

    async def ext_method(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        raise RequestError.method_not_found(method)

    async def ext_notification(self, method: str, params: dict[str, Any]) -> None:
        """Of a later version, or of the agent's own: left alone."""

    def tell(self, result: RunResult) -> None:
        """A result for the run's stream."""
        self._results.append(result)
        if len(self._results) >= MAX_WAITING:
            self._room.clear()
        self._changed.set()


def _option(options: Sequence[PermissionOption], allowing: bool) -> PermissionOption | None:
    return next((one for kind in _PREFERRED[allowing] for one in options if one.kind == kind), None)


def _text_of(update: Any) -> str:
    texts = []
    for one in update.content or ():
        block = getattr(one, "content", None)
        if isinstance(block, TextContentBlock):
            texts.append(block.text)
        elif getattr(one, "path", None):
            texts.append(f"changed {one.path}")
    return "\n".join(texts)
