"""`POST /v1/responses`: writing. An answer is a list of items; streamed, each has a beginning, pieces and an end."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from portway.rpc.errors import PortwayError
from portway.rpc.ids import new_id
from portway.server.gateway import sse
from portway.server.gateway.namespaces import Namespaces
from portway.server.gateway.openai_chat import arguments_of
from portway.server.gateway.openai_errors import error_body
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

_INCOMPLETE = {FinishReason.LENGTH: "max_output_tokens", FinishReason.CONTENT_FILTER: "content_filter"}

Item = dict[str, Any]


class ResponseWriter:
    """`free`: tools whose argument is free text; `spaces`: those that the program knows in groups."""

    def __init__(self, model: str, free: frozenset[str], spaces: Namespaces) -> None:
        self._model = model
        self._free = free
        self._spaces = spaces
        self._id = _name("resp")
        self._created = int(time.time())
        self._sequence = -1
        self._items: list[Item] = []
        self._open: Item | None = None
        self._pieces: list[str] = []
        self._calls: dict[str, int] = {}
        self._provider_id = ""

    def provider(self, provider_id: str) -> None:
        self._provider_id = provider_id

    def whole(self, answer: Answered) -> Mapping[str, Any]:
        # The same items as streamed: their pieces are the parts of the answer.
        for part in answer.answer.message.parts:
            for _ in self._part(part):
                pass
        for _ in self._close():
            pass
        return self._finished(answer)

    def begin(self) -> Iterable[bytes]:
        yield self._event("response.created", response=self._response("in_progress"))
        yield self._event("response.in_progress", response=self._response("in_progress"))

    def piece(self, event: ModelEvent) -> Iterable[bytes]:
        match event:
            case TextDelta(text):
                yield from self._text(text)
            case ReasoningDelta(text, signature, block):
                yield from self._think(text, signature, block)
            case ToolCallStarted(call_id, name):
                yield from self._close()
                yield from self._call(call_id, name)
            case ToolCallDelta(call_id, arguments):
                yield from self._arguments(call_id, arguments)
            case ToolCallCompleted(call_id, _, arguments):
                yield from self._called(call_id, arguments)
            case _:
                pass

    def end(self, answer: Answered) -> Iterable[bytes]:
        yield from self._close()
        response = self._finished(answer)
        yield self._event(f"response.{response['status']}", response=response)

    def broken(self, error: PortwayError) -> Iterable[bytes]:
        told = error_body(error)["error"]
        failed = {
            **self._response("failed"),
            "error": {"code": told["code"] or told["type"], "message": told["message"]},
        }
        yield self._event("response.failed", response=failed)

    def _part(self, part: object) -> Iterable[bytes]:
        match part:
            case TextPart(text):
                yield from self.piece(TextDelta(text))
            case ReasoningPart(text, signature, block, provider_id):
                self._provider_id = provider_id
                if text:
                    yield from self.piece(ReasoningDelta(text))
                if signature or block:
                    yield from self.piece(ReasoningDelta("", signature, block))
            case ToolCallPart(call_id, name, arguments):
                yield from self.piece(ToolCallStarted(call_id, name))
                yield from self.piece(ToolCallCompleted(call_id, name, arguments))
            case _:
                pass

    # Text.

    def _text(self, text: str) -> Iterable[bytes]:
        item = self._open
        if item is None or item["type"] != "message":
            yield from self._close()
            item = {"type": "message", "id": _name("msg"), "status": "in_progress", "role": "assistant", "content": []}
            yield from self._begin(item)
            yield self._event("response.content_part.added", **self._at(item, content_index=0), part=_part(""))
        self._pieces.append(text)
        at = self._at(item, content_index=0)
        yield self._event("response.output_text.delta", **at, delta=text, logprobs=[])

    def _end_text(self, item: Item) -> Iterable[bytes]:
        text, at = "".join(self._pieces), self._at(item, content_index=0)
        item["content"] = [_part(text)]
        yield self._event("response.output_text.done", **at, text=text, logprobs=[])
        yield self._event("response.content_part.done", **at, part=_part(text))

    # Reasoning.

    def _think(self, text: str, signature: str, block: str) -> Iterable[bytes]:
        item = self._open
        if item is None or item["type"] != "reasoning":
            yield from self._close()
            item = {"type": "reasoning", "id": _name("rs"), "summary": []}
            yield from self._begin(item)
        if text:
            at = self._at(item, summary_index=0)
            if not self._pieces:
                part = {"type": "summary_text", "text": ""}
                yield self._event("response.reasoning_summary_part.added", **at, part=part)
            self._pieces.append(text)
            yield self._event("response.reasoning_summary_text.delta", **at, delta=text)
        if signature or block:
            item["encrypted_content"] = sealed(signature, block, self._provider_id)
            yield from self._close()

    def _end_thought(self, item: Item) -> Iterable[bytes]:
        text, at = "".join(self._pieces), self._at(item, summary_index=0)
        if text:
            part = {"type": "summary_text", "text": text}
            item["summary"] = [part]
            yield self._event("response.reasoning_summary_text.done", **at, text=text)
            yield self._event("response.reasoning_summary_part.done", **at, part=part)

    # Calls.

    def _call(self, call_id: str, name: str) -> Iterable[bytes]:
        group, inner = self._spaces.parts(name)
        item: Item = {"id": _name("fc"), "call_id": call_id, "name": inner, "status": "in_progress"}
        if group:
            item["namespace"] = group
        if name in self._free:
            item |= {"type": "custom_tool_call", "input": ""}
        else:
            item |= {"type": "function_call", "arguments": ""}
        self._calls[call_id] = len(self._items)
        yield from self._begin(item, opened=False)

    def _arguments(self, call_id: str, arguments: str) -> Iterable[bytes]:
        item = self._items[self._calls[call_id]]
        if item["type"] == "function_call":
            yield self._event("response.function_call_arguments.delta", **self._at(item), delta=arguments)

    def _called(self, call_id: str, arguments: str) -> Iterable[bytes]:
        item = self._items[self._calls[call_id]]
        item["status"] = "completed"
        if item["type"] == "function_call":
            item["arguments"] = arguments
            done = self._at(item)
            yield self._event("response.function_call_arguments.done", **done, arguments=arguments, name=item["name"])
        else:
            item["input"] = text = str(arguments_of(arguments).get("input", arguments))
            yield self._event("response.custom_tool_call_input.delta", **self._at(item), delta=text)
            yield self._event("response.custom_tool_call_input.done", **self._at(item), input=text)
        yield self._event("response.output_item.done", output_index=self._items.index(item), item=item)

    # Items and the whole.

    def _begin(self, item: Item, *, opened: bool = True) -> Iterable[bytes]:
        self._items.append(item)
        if opened:
            self._open, self._pieces = item, []
        yield self._event("response.output_item.added", output_index=len(self._items) - 1, item=item)

    def _close(self) -> Iterable[bytes]:
        item, self._open = self._open, None
        if item is None:
            return
        yield from self._end_text(item) if item["type"] == "message" else self._end_thought(item)
        item["status"] = "completed"
        yield self._event("response.output_item.done", output_index=self._items.index(item), item=item)

    def _at(self, item: Item, **more: int) -> dict[str, Any]:
        return {"item_id": item["id"], "output_index": self._items.index(item), **more}

    def _finished(self, answer: Answered) -> dict[str, Any]:
        reason = _INCOMPLETE.get(answer.answer.finish_reason)
        response = self._response("incomplete" if reason else "completed")
        response["incomplete_details"] = {"reason": reason} if reason else None
        response["usage"] = _usage(answer.message.usage)
        return response

    def _response(self, status: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "model": self._model,
            "output": self._items,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "temperature": None,
            "top_p": None,
            "tool_choice": "auto",
            "tools": [],
            "store": False,
            "usage": None,
        }

    def _event(self, kind: str, **body: Any) -> bytes:
        self._sequence += 1
        return sse.event(kind, {"type": kind, "sequence_number": self._sequence, **body})


def _name(prefix: str) -> str:
    return f"{prefix}_{new_id('x').removeprefix('x_')}"


def _part(text: str) -> Mapping[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: usage_pb2.Usage) -> Mapping[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
