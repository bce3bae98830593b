"""One round of tool calls: side by side, and what goes wrong in one is told to the model."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from portway.rpc.errors import PortwayError, Reason
from portway.runtime.official.local_agent.settings import Settings
from portway.runtime.sdk import (
    HostApi,
    ModelMessage,
    ModelToolCall,
    ModelToolResult,
    RunError,
    RunFailure,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResult,
)

MAX_AT_ONCE = 8
MAX_CALLS = 64
MAX_TEXT = 32_000

# These concern the whole run; the model can do nothing about them.
_FATAL = frozenset(
    {
        Reason.BUDGET_EXHAUSTED,
        Reason.TOOL_ROUNDS_EXHAUSTED,
        Reason.CANCELLED,
        Reason.RUN_FINISHED,
        Reason.ATTEMPT_SUPERSEDED,
    }
)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A call that the model asks for. `call_id` is the run's, the same in each attempt that gets here the same way."""

    call_id: str
    asked: ModelToolCall
    arguments: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class _Done:
    wanted: _Wanted
    text: str
    error: RunError | None
    duration: timedelta
    fatal: Exception | None = None


class ToolRound:
    """Calls what a model asked for. After `results`, `messages` are the answers to the model, in its order."""

    def __init__(self, host: HostApi, settings: Settings, number: int, asked: Sequence[ModelToolCall]) -> None:
        self._host = host
        self._settings = settings
        self._wanted = [_wanted(number, index, call) for index, call in enumerate(asked[:MAX_CALLS])]
        self._left_out = asked[MAX_CALLS:]
        self._done: dict[str, _Done] = {}
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)

    async def results(self) -> AsyncIterator[ToolCallStarted | ToolCallCompleted]:
        """What to tell of the calls. Raises where the run cannot go on."""
        for wanted in self._wanted:
            yield ToolCallStarted(wanted.call_id, wanted.asked.tool, wanted.arguments or {})
        calls = [asyncio.ensure_future(self._call(wanted)) for wanted in self._wanted]
        try:
            for call in asyncio.as_completed(calls):
                done = await call
                self._done[done.wanted.call_id] = done
                yield ToolCallCompleted(
                    done.wanted.call_id, done.wanted.asked.tool, done.text, done.error, done.duration
                )
        finally:
            for unfinished in calls:
                unfinished.cancel()
        for wanted in self._wanted:
            fatal = self._done[wanted.call_id].fatal
            if fatal is not None:
                raise fatal

    def messages(self) -> list[ModelMessage]:
        answered = [
            _answer(wanted.asked, self._done[wanted.call_id].text, self._done[wanted.call_id].error is not None)
            for wanted in self._wanted
        ]
        return answered + [_answer(call, f"only {MAX_CALLS} calls are made at once", True) for call in self._left_out]

    async def _call(self, wanted: _Wanted) -> _Done:
        async with self._slots:
            return await self._outcome(wanted)

    async def _outcome(self, wanted: _Wanted) -> _Done:
        began = time.monotonic()
        known = [tool.name for tool in self._settings.tools]
        error: RunError | None = None
        fatal: Exception | None = None
        if wanted.asked.tool not in known:
            names = ", ".join(known) or "none"
            error = RunError("tool.not_found", f"there is no tool {wanted.asked.tool!r}; there are: {names}")
        elif wanted.arguments is None:
            error = RunError("tool.bad_arguments", "the arguments are no JSON object; send them again as one")
        else:
            try:
                result = await self._host.tools.call(
                    wanted.asked.tool, wanted.arguments, call_id=wanted.call_id, within=self._settings.tool_time
                )
                text = text_of_result(result)
                error = RunError("tool.failed", text[:1000]) if result.is_error else None
                return _Done(wanted, text, error, _since(began))
            except PortwayError as raised:
                error = RunError("tool.failed", raised.message)
                fatal = _fatal(raised, wanted.asked.tool)
        return _Done(wanted, f"error: {error.message}", error, _since(began), fatal)


def _wanted(number: int, index: int, call: ModelToolCall) -> _Wanted:
    try:
        arguments = json.loads(call.arguments_json or "{}")
    except ValueError:
        arguments = None
    # An attempt that is repeated gets the recorded results by these ids; the digest keeps another call from taking
    # them where the model does not repeat itself.
    digest = hashlib.sha256(f"{call.tool}\0{call.arguments_json}".encode()).hexdigest()[:12]
    return _Wanted(f"t{number}-{index}-{digest}", call, arguments if isinstance(arguments, dict) else None)


def _fatal(error: PortwayError, tool: str) -> Exception | None:
    if error.reason == Reason.EFFECT_UNKNOWN:
        return RunFailure(
            "tool.effect_unknown",
            f"the tool {tool} was interrupted: it may have run, its result is lost, and it was not run again. "
            "Check what it did before asking for it once more.",
        )
    return error if error.reason in _FATAL else None


def text_of_result(result: ToolResult) -> str:
    """The text for the model: what is very long keeps its beginning and its end."""
    text = result.text or (json.dumps(result.data, ensure_ascii=False) if result.data else "")
    for artifact in result.artifacts:
        text += f"\n[file: {artifact.name or artifact.artifact_id}, {artifact.mime_type}, {artifact.size:,} bytes]"
    if len(text) > MAX_TEXT:
        left_out = len(text) - MAX_TEXT
        text = f"{text[: MAX_TEXT // 2]}\n[{left_out:,} characters left out]\n{text[-MAX_TEXT // 2 :]}"
    return text or "(no output)"


def _answer(call: ModelToolCall, text: str, is_error: bool) -> ModelMessage:
    return ModelMessage.tool(ModelToolResult(call.call_id, call.tool, text, is_error))


def _since(began: float) -> timedelta:
    return timedelta(seconds=time.monotonic() - began)
