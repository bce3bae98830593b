"""How many tokens something has, roughly: the host counts only what is nearly too long."""

from collections.abc import Iterable

from portway.runtime.sdk import ImagePart, ModelMessage

IMAGE_TOKENS = 1_000
_MESSAGE_TOKENS = 4


def tokens_in(text: str) -> int:
    """A count on the safe side: four characters of ASCII, or one of any other script, are a token."""
    plain = len(text) if text.isascii() else sum(1 for character in text if character < "\x80")
    return plain // 4 + (len(text) - plain) + 1


def tokens_of(messages: Iterable[ModelMessage]) -> int:
    """Of whole messages, with pictures, calls and results."""
    return sum(_of_message(message) for message in messages)


def _of_message(message: ModelMessage) -> int:
    count = _MESSAGE_TOKENS + tokens_in(message.text)
    count += IMAGE_TOKENS * sum(isinstance(part.content, ImagePart) for part in message.parts)
    count += sum(tokens_in(call.tool + call.arguments_json) for call in message.tool_calls)
    count += sum(tokens_in(block.text) for block in message.reasoning_blocks)
    return count + (tokens_in(message.tool_result.text) if message.tool_result else 0)
