"""`POST /v1/messages`: writing."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from portway.rpc.errors import PortwayError
from portway.rpc.ids import new_id
from portway.server.gateway import sse
from portway.server.gateway.openai_chat import arguments_of
from portway.server.gateway.thoughts import sealed
from portway.server.models.types import (
    FinishReason,
    ModelEvent,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallPart,
    ToolCallStarted,
)
from portway.server.runner_calls.asking import Answered
from portway.v1 import usage_pb2

_STOP = {
    FinishReason.STOP: "end_turn",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.CONTENT_FILTER: "refusal",
    FinishReason.OTHER: "end_turn",
}


class MessageWriter:
    """Blocks are numbered in the order of the answer. Text and thinking close when something else begins; a call closes
    when it is whole."""

    def __init__(self, model: str, error_body: Callable[[PortwayError], Mapping[str, Any]]) -> None:
        self._model = model
        self._error_body = error_body
        self._id = f"msg_{new_id('x').removeprefix('x_')}"
        self._blocks = 0
        self._open = ""
        self._calls: dict[str, int] = {}
        self._provider_id = ""

    def whole(self, answer: Answered) -> Mapping[str, Any]:
        content = [block for part in answer.answer.message.parts if (block := _block(part))]
        return {
            **self._head(),
            "content": content,
            "stop_reason": _STOP[answer.answer.finish_reason],
            "usage": _usage(answer.message.usage),
        }

    def begin(self) -> Iterable[bytes]:
        usage = {"input_tokens": 0, "output_tokens": 0}
        yield _event("message_start", message={**self._head(), "content": [], "stop_reason": None, "usage": usage})
        yield _event("ping")

    def piece(self, event: ModelEvent) -> Iterable[bytes]:
        match event:
            case TextDelta(text):
                yield from self._turn("text", {"type": "text", "text": ""})
                yield self._delta({"type": "text_delta", "text": text})
            case ReasoningDelta(text, signature, block):
                yield from self._think(text, signature, block)
            case ToolCallStarted(call_id, name):
                yield from self._close()
                index = self._calls[call_id] = self._next()
                yield _start(index, {"type": "tool_use", "id": call_id, "name": name, "input": {}})
            case ToolCallDelta(call_id, arguments):
                delta = {"type": "input_json_delta", "partial_json": arguments}
                yield _event("content_block_delta", index=self._calls[call_id], delta=delta)
            case ToolCallCompleted(call_id):
                yield _event("content_block_stop", index=self._calls[call_id])
            case _:
                pass

    def end(self, answer: Answered) -> Iterable[bytes]:
        yield from self._close()
        delta = {"stop_reason": _STOP[answer.answer.finish_reason], "stop_sequence": None}
        yield _event("message_delta", delta=delta, usage=_usage(answer.message.usage))
        yield _event("message_stop")

    def broken(self, error: PortwayError) -> Iterable[bytes]:
        yield sse.event("error", self._error_body(error))

    def provider(self, provider_id: str) -> None:
        """Who answers: whose thinking it is."""
        self._provider_id = provider_id

    def _think(self, text: str, signature: str, block: str) -> Iterable[bytes]:
        seal = sealed(signature, block, self._provider_id) if signature or block else ""
        if not text and self._open != "thinking":
            if seal:
                yield from self._close()
                index = self._next()
                yield _start(index, {"type": "redacted_thinking", "data": seal})
                yield _event("content_block_stop", index=index)
            return
        yield from self._turn("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        if text:
            yield self._delta({"type": "thinking_delta", "thinking": text})
        if seal:
            yield self._delta({"type": "signature_delta", "signature": seal})
            yield from self._close()

    def _turn(self, kind: str, block: Mapping[str, Any]) -> Iterable[bytes]:
        if self._open == kind:
            return
        yield from self._close()
        self._open = kind
        yield _start(self._next(), block)

    def _close(self) -> Iterable[bytes]:
        if self._open:
            self._open = ""
            yield _event("content_block_stop", index=self._blocks - 1)

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._blocks - 1, delta=delta)

    def _next(self) -> int:
        self._blocks += 1
        return self._blocks - 1

    def _head(self) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "stop_sequence": None,
        }


def _event(kind: str, **body: Any) -> bytes:
    return sse.event(kind, {"type": kind, **body})


def _start(index: int, block: Mapping[str, Any]) -> bytes:
    return _event("content_block_start", index=index, content_block=block)


def _block(part: object) -> Mapping[str, Any] | None:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ReasoningPart(text, signature, block, provider_id):
            seal = sealed(signature, block, provider_id)
            if not text:
                return {"type": "redacted_thinking", "data": seal}
            return {"type": "thinking", "thinking": text, "signature": seal}
        case ToolCallPart(call_id, name, arguments):
            return {"type": "tool_use", "id": call_id, "name": name, "input": arguments_of(arguments)}
        case _:
            return None


def _usage(usage: usage_pb2.Usage) -> Mapping[str, Any]:
    """The vendor counts what came from its cache apart."""
    cached = min(usage.cached_tokens, usage.input_tokens)
    return {
        "input_tokens": usage.input_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.output_tokens,
    }
