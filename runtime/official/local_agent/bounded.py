"""An answer of a model in bounds: what goes back to it must be something that the host and every provider take."""

from collections.abc import Sequence
from dataclasses import replace

from portway.runtime.sdk import ModelAnswer, ModelMessage, ModelToolCall, text_part

MAX_CALLS = 64
MAX_NAME = 256
MAX_ARGUMENT_BYTES = 256 * 1024
MAX_BLOCKS = 64
MAX_BLOCK_BYTES = 1024 * 1024


def bounded(answer: ModelAnswer, said: str, number: int) -> tuple[ModelMessage, int]:
    """The message as it is shown to the model again, and how many of its calls were left out.

    `said` is its text without reasoning; `number` counts the answers, for ids of calls that have none of their own.
    """
    message = answer.message
    calls = [_call(call, f"call_{number}_{index}") for index, call in enumerate(message.tool_calls[:MAX_CALLS])]
    blocks = message.reasoning_blocks[-MAX_BLOCKS:]
    if sum(len(block.text) + len(block.signature) for block in blocks) > MAX_BLOCK_BYTES:
        blocks = ()
    kept = replace(
        message,
        parts=(text_part(said),) if said else (),
        tool_calls=_with_own_ids(calls, number),
        reasoning="",
        reasoning_blocks=blocks,
    )
    return kept, max(0, len(message.tool_calls) - MAX_CALLS)


def _call(call: ModelToolCall, usual_id: str) -> ModelToolCall:
    arguments = call.arguments_json
    if len(arguments.encode()) > MAX_ARGUMENT_BYTES:
        arguments = '{"too_long": true}'
    call_id = call.call_id if 0 < len(call.call_id) <= MAX_NAME else usual_id
    return replace(call, call_id=call_id, tool=call.tool[:MAX_NAME], arguments_json=arguments)


def _with_own_ids(calls: Sequence[ModelToolCall], number: int) -> tuple[ModelToolCall, ...]:
    """Two calls of one id could not be told apart in the results."""
    seen: set[str] = set()
    own = []
    for index, call in enumerate(calls):
        if call.call_id in seen:
            call = replace(call, call_id=f"call_{number}_{index}_again")
        seen.add(call.call_id)
        own.append(call)
    return tuple(own)
