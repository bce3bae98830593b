"""The bill of one call of a model: an estimate is held while it is under way, what its provider measured is charged."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Self

from portway.server.models.errors import ModelError
from portway.server.models.fallback import RoutedEvent
from portway.server.models.types import (
    ImagePart,
    Message,
    ModelRequest,
    Part,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    ToolResultPart,
)
from portway.server.runner_calls.scope import RunScope
from portway.server.spending.meter import Hold
from portway.server.spending.types import Amounts
from portway.v1 import usage_pb2

# Estimates, for as long as nobody has measured: most tokenizers need fewer characters for a token than this, so an
# estimate is rather too low than too high.
CHARS_A_TOKEN = 4
IMAGE_TOKENS = 1_000
# What an answer of unknown length holds of a budget while it is under way.
USUAL_ANSWER_TOKENS = 1_000
# Every model can answer so much: a limit above it is left to the provider, which would refuse one that is too high.
SMALLEST_LIMIT_OF_MODELS = 4_096


def estimate_of(question: ModelRequest) -> Amounts:
    """What the question may cost before anything is known."""
    tokens = sum(_tokens_of(message) for message in question.messages)
    return Amounts(calls=1, input_tokens=tokens, output_tokens=question.max_output_tokens or USUAL_ANSWER_TOKENS)


class Bill:
    """Opened before the call, closed after it, whatever happens between."""

    def __init__(self, hold: Hold, estimate: Amounts) -> None:
        self._hold = hold
        self._estimate = estimate
        self._chars = 0
        self._started = False
        self._refused = False
        self._usage: usage_pb2.Usage | None = None

    @classmethod
    async def open(cls, run: RunScope, model_id: str, estimate: Amounts) -> Self:
        """Raises LimitExceeded (BUDGET_EXHAUSTED), and the run ends with it."""
        return cls(await run.meter.hold(estimate, model_id=model_id), estimate)

    def capped(self, question: ModelRequest) -> ModelRequest:
        """The question, with an answer no longer than what the budgets have left."""
        left = self._hold.room.tokens
        if left is None:
            return question
        most = max(1, left - self._estimate.input_tokens)
        wanted = question.max_output_tokens
        if (wanted is None and most >= SMALLEST_LIMIT_OF_MODELS) or (wanted is not None and wanted <= most):
            return question
        return replace(question, max_output_tokens=most)

    def saw(self, event: RoutedEvent) -> None:
        """A piece of the answer."""
        self._started = True
        match event:
            case TextDelta(text) | ReasoningDelta(text):
                self._chars += len(text)
            case ToolCallDelta(_, text):
                self._chars += len(text)
            case _:
                pass

    def measured(self, usage: usage_pb2.Usage) -> None:
        """The provider has said what it was."""
        self._usage = usage

    def refused(self) -> None:
        """The provider failed. Where it had not begun to answer, only the call counts."""
        self._refused = not self._started

    def close(self) -> None:
        """Charge what is known, and the estimate where nothing is: what may have been used counts as used."""
        usage = self._usage
        if usage is None:
            output = self._chars // CHARS_A_TOKEN
            used = Amounts(calls=1, input_tokens=self._estimate.input_tokens, output_tokens=output, unpriced_calls=1)
            self._hold.settle(Amounts(calls=1) if self._refused else used)
            return
        used = Amounts(
            cost_micros=usage.cost_micros,
            input_tokens=usage.input_tokens if usage.HasField("input_tokens") else self._estimate.input_tokens,
            output_tokens=(usage.output_tokens if usage.HasField("output_tokens") else self._chars // CHARS_A_TOKEN),
            calls=1,
            unpriced_calls=0 if usage.HasField("cost_micros") else 1,
        )
        self._hold.settle(used, currency=usage.currency, model_id=usage.model_id)


@asynccontextmanager
async def billed(run: RunScope, model_id: str, texts: Iterable[str]) -> AsyncIterator[Bill]:
    """The bill of a call that answers at once. Raises LimitExceeded (BUDGET_EXHAUSTED), and the run ends with it."""
    tokens = sum(len(text) for text in texts) // CHARS_A_TOKEN
    bill = await Bill.open(run, model_id, Amounts(calls=1, input_tokens=tokens))
    try:
        yield bill
    except ModelError:
        bill.refused()
        raise
    finally:
        bill.close()


def _tokens_of(message: Message) -> int:
    return sum(_estimate(part) for part in message.parts)


def _estimate(part: Part) -> int:
    match part:
        case TextPart(text) | ReasoningPart(text):
            return len(text) // CHARS_A_TOKEN
        case ToolCallPart(_, _, arguments):
            return len(arguments) // CHARS_A_TOKEN
        case ToolResultPart(_, _, text, _, images):
            return len(text) // CHARS_A_TOKEN + IMAGE_TOKENS * len(images)
        case ImagePart():
            return IMAGE_TOKENS
