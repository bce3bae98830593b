"""Byte-exact pieces of the two model wire formats, as the vendors document them.

Each builder returns the server-sent-event frames of one answer, one frame per item, so that a test decides
where a stream pauses, breaks or ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class WireToolCall:
    """One tool call as the model sends it: arguments arrive in the given fragments."""

    call_id: str
    name: str
    argument_fragments: tuple[str, ...]


@dataclass(frozen=True)
class WireAnswer:
    """What a fake model answers, before it is put into one of the wire formats."""

    text: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    tool_calls: tuple[WireToolCall, ...] = ()
    finish: str | None = None
    model: str = "fake-model-2026"
    usage: Mapping[str, object] | None = field(default_factory=dict)


def openai_frames(answer: WireAnswer) -> list[bytes]:
    """Chat Completions chunks; `usage=None` leaves the usage chunk out, as some compatible servers do."""
    deltas: list[dict[str, object]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in answer.reasoning]
    deltas += [{"content": piece} for piece in answer.text]
    for index, call in enumerate(answer.tool_calls):
        opening = {"index": index, "id": call.call_id, "type": "function"}
        deltas.append({"tool_calls": [{**opening, "function": {"name": call.name, "arguments": ""}}]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in call.argument_fragments
        ]
    finish = answer.finish or ("tool_calls" if answer.tool_calls else "stop")
    frames = [_openai_chunk(answer.model, delta, None) for delta in deltas]
    frames.append(_openai_chunk(answer.model, {}, finish))
    if answer.usage is not None:
        totals = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, **answer.usage}
        frames.append(_data({**_openai_head(answer.model), "choices": [], "usage": totals}))
    frames.append(b"data: [DONE]\n\n")
    return frames


def anthropic_frames(answer: WireAnswer) -> list[bytes]:
    """Messages API events; reasoning becomes a thinking block with a signature."""
    usage = {"input_tokens": 11, "output_tokens": 1, **(answer.usage or {})}
    message: dict[str, object] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    frames = [_event({"type": "message_start", "message": message})]
    for index, (block, deltas) in enumerate(_anthropic_blocks(answer)):
        frames.append(_event({"type": "content_block_start", "index": index, "content_block": block}))
        frames += [_event({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas]
        frames.append(_event({"type": "content_block_stop", "index": index}))
    finish = answer.finish or ("tool_use" if answer.tool_calls else "end_turn")
    closing = {"type": "message_delta", "delta": {"stop_reason": finish, "stop_sequence": None}}
    frames.append(_event({**closing, "usage": {"output_tokens": 7}}))
    frames.append(_event({"type": "message_stop"}))
    return frames


def _anthropic_blocks(answer: WireAnswer) -> list[tuple[dict[str, object], list[dict[str, object]]]]:
    blocks: list[tuple[dict[str, object], list[dict[str, object]]]] = []
    if answer.reasoning:
        deltas: list[dict[str, object]] = [{"type": "thinking_delta", "thinking": piece} for piece in answer.reasoning]
        deltas.append({"type": "signature_delta", "signature": "c2lnbmVk"})
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
    if answer.text:
        blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in answer.text]))
    for call in answer.tool_calls:
        opening: dict[str, object] = {"type": "tool_use", "id": call.call_id, "name": call.name, "input": {}}
        fragments: Sequence[dict[str, object]] = [
            {"type": "input_json_delta", "partial_json": piece} for piece in call.argument_fragments
        ]
        blocks.append((opening, list(fragments)))
    return blocks


def _openai_head(model: str) -> dict[str, object]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model}


def _openai_chunk(model: str, delta: Mapping[str, object], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": dict(delta), "finish_reason": finish}
    return _data({**_openai_head(model), "choices": [choice]})


def _data(payload: Mapping[str, object]) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def _event(payload: Mapping[str, object]) -> bytes:
    return f"event: {payload['type']}\n".encode() + _data(payload)
