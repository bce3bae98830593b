"""From the library's stream events to model events."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator

from pydantic_ai.messages import (
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPartDelta,
)
from pydantic_ai.messages import TextPart as LibraryTextPart
from pydantic_ai.messages import ToolCallPart as LibraryToolCallPart
from pydantic_ai.usage import RequestUsage

from portway.server.models.library.characters import Halves, whole
from portway.server.models.types import (
    FinishReason,
    ModelEvent,
    ReasoningDelta,
    TextDelta,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)

_FINISH = {
    "stop": FinishReason.STOP,
    "tool_call": FinishReason.TOOL_CALLS,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class EventReader:
    """Reads one stream; remembers only the ids of the calls that it has announced, and halves of characters."""

    def __init__(self) -> None:
        self._call_ids: dict[int, str] = {}
        self._halves: defaultdict[int, Halves] = defaultdict(Halves)

    def read(self, event: ModelResponseStreamEvent) -> Iterator[ModelEvent]:
        """The model events of one library event; kinds that say nothing about the answer give none."""
        match event:
            case PartStartEvent(index=index, part=part):
                yield from self._started(index, part)
            case PartDeltaEvent(index=index, delta=delta):
                yield from self._delta(index, delta)
            case PartEndEvent(part=part):
                yield from _ended(part)
            case _:
                pass  # The library tells more than an answer holds, such as which part it takes for the final one.

    def _started(self, index: int, part: object) -> Iterator[ModelEvent]:
        match part:
            case LibraryTextPart(content=text) if text := self._whole(index, text):
                yield TextDelta(text)
            case ThinkingPart(content=text) if text := self._whole(index, text):
                yield ReasoningDelta(text)
            case LibraryToolCallPart(tool_name=name, args=arguments, tool_call_id=call_id):
                self._call_ids[index] = call_id
                yield ToolCallStarted(call_id, whole(name))
                yield from self._arguments(index, arguments)
            case _:
                pass

    def _delta(self, index: int, delta: object) -> Iterator[ModelEvent]:
        match delta:
            case TextPartDelta(content_delta=text) if text := self._whole(index, text):
                yield TextDelta(text)
            case ThinkingPartDelta(content_delta=text) if text := self._whole(index, text):
                yield ReasoningDelta(text)
            case ToolCallPartDelta(args_delta=arguments) if index in self._call_ids:
                yield from self._arguments(index, arguments)
            case _:
                pass

    def _arguments(self, index: int, arguments: str | dict[str, object] | None) -> Iterator[ModelEvent]:
        if text := self._whole(index, _json_text(arguments)):
            yield ToolCallDelta(self._call_ids[index], text)

    def _whole(self, index: int, text: str | None) -> str:
        return self._halves[index].joined(text) if text else ""


def _ended(part: object) -> Iterator[ModelEvent]:
    match part:
        case ThinkingPart(signature=signature, id=block) if signature or block:
            yield ReasoningDelta("", signature or "", block or "")
        case LibraryToolCallPart(tool_name=name, args=arguments, tool_call_id=call_id, provider_details=details):
            signature = json.dumps(details, sort_keys=True) if details else ""
            yield ToolCallCompleted(call_id, whole(name), whole(_json_text(arguments)) or "{}", signature)
        case _:
            pass


def _json_text(arguments: str | dict[str, object] | None) -> str:
    if isinstance(arguments, str):
        return arguments
    return json.dumps(arguments, ensure_ascii=False) if arguments else ""


def finish_of(response: ModelResponse) -> FinishReason | None:
    """Why the answer ended; `None` when the stream stopped without saying so."""
    if response.finish_reason is None:
        return None
    return _FINISH.get(response.finish_reason, FinishReason.OTHER)


def usage_of(usage: RequestUsage) -> Usage:
    """What the provider reported. The library counts from zero, so a zero is kept only where the provider sent it."""
    reported = usage.details
    return Usage(
        input_tokens=usage.input_tokens or None,
        output_tokens=usage.output_tokens if usage.input_tokens else usage.output_tokens or None,
        cached_tokens=usage.cache_read_tokens or reported.get("cache_read_input_tokens"),
        reasoning_tokens=usage.output_reasoning_tokens or reported.get("reasoning_tokens"),
    )
