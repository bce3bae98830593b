"""What a run says, without the keys that its requests carry: a flow that prints its request must not tell people."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from portway.runtime.sdk.session.failures import RunFailure
from portway.runtime.sdk.types.content import TextPart
from portway.runtime.sdk.types.results import (
    MessageCompleted,
    Progress,
    ReasoningDelta,
    RunResult,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
)

HIDDEN = "***"
# Shorter ones are words: hiding them would hide what is said, and guessing them costs nothing.
MIN_LENGTH = 8


class Mask:
    """Takes secrets out of texts, also where they come in pieces."""

    def __init__(self, secrets: Sequence[str]) -> None:
        long = {secret for secret in secrets if len(secret) >= MIN_LENGTH}
        # A secret that holds another one goes first.
        self._secrets = sorted(long, key=len, reverse=True)

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def json(self, value: Any) -> Any:
        """The same JSON with its texts masked."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.json(one) for key, one in value.items()}
        return [self.json(one) for one in value] if isinstance(value, list) else value

    def held(self, text: str) -> int:
        """How many characters at the end of `text` may be the beginning of a secret."""
        longest = max((len(secret) for secret in self._secrets), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(secret.startswith(text[-size:]) for secret in self._secrets):
                return size
        return 0


class _Pieces:
    """A text that comes in pieces."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._held = ""

    def feed(self, piece: str) -> str:
        text = self._mask.text(self._held + piece)
        keep = self._mask.held(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        text, self._held = self._held, ""
        return text


async def masked(results: AsyncGenerator[RunResult, None], secrets: Sequence[str]) -> AsyncGenerator[RunResult, None]:
    """The results, and what they end with where that is a failure, without the secrets."""
    mask = Mask(secrets)
    text, reasoning = _Pieces(mask), _Pieces(mask)
    try:
        async with aclosing(results):
            async for result in results:
                match result:
                    case TextDelta():
                        if piece := text.feed(result.text):
                            yield replace(result, text=piece)
                    case ReasoningDelta():
                        if piece := reasoning.feed(result.reasoning):
                            yield replace(result, reasoning=piece)
                    case _:
                        for one in _flushed(result, text, reasoning):
                            yield one
                        yield _without(result, mask)
    except RunFailure as failure:
        failure.reword(mask.text(failure.error.message))
        raise


def _flushed(result: RunResult, text: _Pieces, reasoning: _Pieces) -> Iterator[RunResult]:
    """What was held back, before the message that it belongs to is completed."""
    if isinstance(result, MessageCompleted):
        if piece := reasoning.rest():
            yield ReasoningDelta(piece, result.message_key)
        if piece := text.rest():
            yield TextDelta(piece, result.message_key)


def _without(result: RunResult, mask: Mask) -> RunResult:
    match result:
        case MessageCompleted():
            parts = (
                replace(part, content=TextPart(mask.text(part.content.text)))
                if isinstance(part.content, TextPart)
                else part
                for part in result.parts
            )
            return replace(result, parts=tuple(parts))
        case ToolCallStarted():
            return replace(result, tool=mask.text(result.tool), arguments=mask.json(result.arguments))
        case ToolCallCompleted():
            return replace(result, tool=mask.text(result.tool), result_text=mask.text(result.result_text))
        case Progress():
            return replace(result, text=mask.text(result.text))
        case _:
            return result
