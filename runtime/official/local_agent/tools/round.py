"""One round of tool calls: side by side, and what goes wrong in one is told to the model."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from portway.rpc.errors import PortwayError, Reason
from portway.runtime.official.local_agent.settings import ToolSettings
from portway.runtime.official.local_agent.tools.arguments import BadArguments, read_arguments
from portway.runtime.official.local_agent.tools.own import OwnTool
from portway.runtime.official.local_agent.tools.question import ASK_PERSON, Question
from portway.runtime.official.local_agent.tools.repeats import Repeats
from portway.runtime.sdk import (
    HostApi,
    ModelMessage,
    ModelToolCall,
    ModelToolResult,
    RunError,
    RunFailure,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResource,
    ToolResult,
)

MAX_TEXT = 32_000
MAX_NAMES = 50

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
_CODES: dict[str, str] = {
    Reason.DEADLINE_EXCEEDED: "tool.timeout",
    Reason.APPROVAL_DENIED: "tool.refused",
    Reason.APPROVAL_EXPIRED: "tool.refused",
    Reason.INVALID_FIELD: "tool.bad_arguments",
    Reason.NOT_FOUND: "tool.not_found",
}


@dataclass(frozen=True, slots=True)
class ToolBox:
    """What calls of a run go to: tools of the host and the runner's own, as the model was offered them."""

    host: HostApi
    settings: ToolSettings
    offered: Sequence[ToolResource]
    own: Sequence[OwnTool]
    repeats: Repeats


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A call that the model asks for. `call_id` is the run's, the same in each attempt that gets here the same way."""

    call_id: str
    asked: ModelToolCall
    arguments: dict[str, Any]
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class _Done:
    text: str
    error: RunError | None = None
    duration: timedelta = field(default_factory=timedelta)
    fatal: Exception | None = None


class ToolRound:
    """Calls what a model asked for. After `results`, `messages` are the answers to the model, in its order.

    At most `most` calls are made. A question to people is not: it is `question` then, and `question_call` waits.
    """

    def __init__(
        self, box: ToolBox, number: int, asked: Sequence[ModelToolCall], *, left_out: int = 0, most: int | None = None
    ) -> None:
        self._box = box
        self._wanted = [_wanted(number, index, call) for index, call in enumerate(asked)]
        self._left_out = left_out
        self._most = len(asked) if most is None else most
        self._done: dict[str, _Done] = {}
        self._slots = asyncio.Semaphore(box.settings.parallel)
        self.question: Question | None = None
        self.question_call: ModelToolCall | None = None

    @property
    def count(self) -> int:
        return len(self._wanted)

    async def results(self) -> AsyncIterator[ToolCallStarted | ToolCallCompleted]:
        """What to tell of the calls. Raises where the run cannot go on."""
        for wanted in self._wanted:
            yield ToolCallStarted(wanted.call_id, wanted.asked.tool, wanted.arguments)
        made = [wanted for index, wanted in enumerate(self._wanted) if not self._is_settled(index, wanted)]
        for wanted in self._wanted:
            if wanted.call_id in self._done:
                yield self._completed(wanted)
        calls = [asyncio.ensure_future(self._call(wanted)) for wanted in made]
        try:
            for call in asyncio.as_completed(calls):
                yield self._completed(await call)
        finally:
            for unfinished in calls:
                unfinished.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        done = self._done.values()
        self._box.repeats.round_ended(all_failed=bool(done) and all(one.error is not None for one in done))
        for one in done:
            if one.fatal is not None:
                raise one.fatal

    def messages(self) -> list[ModelMessage]:
        """The results in the order of the calls; that of a question that waits for people is missing."""
        answered = [
            ModelMessage.tool(ModelToolResult(wanted.asked.call_id, wanted.asked.tool, done.text, bool(done.error)))
            for wanted in self._wanted
            if (done := self._done.get(wanted.call_id)) is not None
        ]
        if self._left_out and answered and (last := answered[-1].tool_result):
            note = f"\n[{self._left_out:,} more calls of this turn were left out: fewer fit into one turn]"
            answered[-1] = ModelMessage.tool(ModelToolResult(last.call_id, last.tool, last.text + note, last.is_error))
        return answered

    def _is_settled(self, index: int, wanted: _Wanted) -> bool:
        """Whether the call has its answer, or waits for people, without being made."""
        done = self._refusal(index, wanted)
        if done is not None:
            self._done[wanted.call_id] = done
            return True
        return wanted.asked is self.question_call

    def _refusal(self, index: int, wanted: _Wanted) -> _Done | None:
        tool, known = wanted.asked.tool, [one.name for one in self._box.offered]
        if tool not in known:
            names = ", ".join(known[:MAX_NAMES]) or "none"
            return _refused("tool.not_found", f"there is no tool {tool[:100]!r}; there are: {names}")
        if wanted.wrong:
            return _refused("tool.bad_arguments", wanted.wrong)
        if tool == ASK_PERSON and any(one.shown.name == ASK_PERSON for one in self._box.own):
            return self._ask(wanted)
        if index >= self._most:
            return _refused("tool.budget", "not called: the run has hardly anything left to spend; answer now")
        if not self._box.repeats.allows(tool, wanted.arguments):
            limit = self._box.repeats.limit
            return _refused(
                "tool.repeated",
                f"not called: {tool} was called with the same arguments {limit} times already. Use what it said, "
                "try something else, or answer with what you have.",
            )
        return None

    def _ask(self, wanted: _Wanted) -> _Done | None:
        if self.question is not None:
            return _refused("tool.failed", "one question at a time; ask again when this one is answered")
        try:
            self.question = Question.read(wanted.arguments)
        except BadArguments as error:
            return _refused("tool.bad_arguments", str(error))
        self.question_call = wanted.asked
        return None

    async def _call(self, wanted: _Wanted) -> _Wanted:
        async with self._slots:
            began = time.monotonic()
            text, error, fatal = await self._outcome(wanted)
            self._done[wanted.call_id] = _Done(text, error, timedelta(seconds=time.monotonic() - began), fatal)
        return wanted

    async def _outcome(self, wanted: _Wanted) -> tuple[str, RunError | None, Exception | None]:
        try:
            result = await self._result(wanted)
        except BadArguments as raised:
            error = RunError("tool.bad_arguments", str(raised))
        except PortwayError as raised:
            error = RunError(_CODES.get(str(raised.reason), "tool.failed"), _what_is_wrong(raised))
            return f"error: {error.message}", error, _fatal(raised, wanted.asked.tool)
        else:
            text = text_of_result(result)
            return text, RunError("tool.failed", text[:1000]) if result.is_error else None, None
        return f"error: {error.message}", error, None

    async def _result(self, wanted: _Wanted) -> ToolResult:
        box, name = self._box, wanted.asked.tool
        for own in box.own:
            if own.shown.name == name:
                return await own.call(wanted.arguments)
        return await box.host.tools.call(name, wanted.arguments, call_id=wanted.call_id, within=box.settings.time)

    def _completed(self, wanted: _Wanted) -> ToolCallCompleted:
        done = self._done[wanted.call_id]
        return ToolCallCompleted(wanted.call_id, wanted.asked.tool, done.text, done.error, done.duration)


def _wanted(number: int, index: int, call: ModelToolCall) -> _Wanted:
    # An attempt that is repeated gets the recorded results by these ids; the digest keeps another call from taking
    # them where the model does not repeat itself.
    digest = hashlib.sha256(f"{call.tool}\0{call.arguments_json}".encode()).hexdigest()[:12]
    call_id = f"t{number}-{index}-{digest}"
    try:
        return _Wanted(call_id, call, read_arguments(call.arguments_json))
    except BadArguments as error:
        return _Wanted(call_id, call, {}, str(error))


def _refused(code: str, text: str) -> _Done:
    return _Done(f"error: {text}", RunError(code, text))


def _what_is_wrong(error: PortwayError) -> str:
    """With the fields that a schema does not allow, which the message need not name."""
    fields = "; ".join(f"{one.field}: {one.description}" for one in error.fields)
    return error.message if not fields or fields in error.message else f"{error.message} ({fields})"


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
        name = artifact.name or artifact.artifact_id
        text += f"\n[file: {name}, {artifact.mime_type}, {artifact.size:,} bytes, id {artifact.artifact_id}]"
    if len(text) > MAX_TEXT:
        left_out = len(text) - MAX_TEXT
        text = f"{text[: MAX_TEXT // 2]}\n[{left_out:,} characters left out]\n{text[-MAX_TEXT // 2 :]}"
    return text or "(no output)"
