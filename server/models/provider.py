"""What every provider can be asked, and how a streamed answer becomes a whole one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import NoReturn, Protocol, assert_never

from portway.rpc.errors import NotAvailable, Reason
from portway.server.models.errors import ModelBadOutput
from portway.server.models.types import (
    Caller,
    Completed,
    Message,
    MessageRole,
    ModelAnswer,
    ModelEvent,
    ModelRequest,
    Part,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallPart,
    ToolCallStarted,
    Usage,
    UsageReported,
)

# An answer of more characters than this is a runaway model, not an answer.
MAX_ANSWER_CHARS = 8 * 1024 * 1024
# Who asks without a run: nobody waits for it.
NOBODY = Caller()


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors in the order of the texts."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """`index` is the document's position in the request; a higher score fits better."""

    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """The documents that were asked for, best first."""

    documents: tuple[RankedDocument, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens of a request's input; `estimated` when the model's own tokenizer did not count."""

    input_tokens: int
    estimated: bool


class Provider(Protocol):
    """One endpoint that serves models. `model` is the provider's own name of the model.

    Every method raises a `ModelError`, or `NotAvailable` where the provider lacks the operation.
    """

    @property
    def provider_id(self) -> str:
        """The id from the configuration."""

    def stream(self, model: str, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """The answer piece by piece; `Completed` is the last event. Read it inside `contextlib.aclosing`."""

    async def invoke(self, model: str, request: ModelRequest) -> ModelAnswer:
        """The whole answer."""

    async def embed(
        self, model: str, texts: Sequence[str], *, dimensions: int = 0, caller: Caller = NOBODY
    ) -> Embeddings:
        """Vectors of the texts, with so many `dimensions` (0: as the model gives)."""

    async def rerank(
        self, model: str, query: str, documents: Sequence[str], top_k: int, *, caller: Caller = NOBODY
    ) -> Ranking:
        """The `top_k` documents that fit the query best; all of them when it is 0."""

    async def count_tokens(self, model: str, request: ModelRequest) -> TokenCount:
        """What the request would use as input."""

    async def close(self) -> None:
        """Gives back connections; the provider cannot be used afterwards."""


class StreamingProvider:
    """The usual provider: it streams, invokes by reading its own stream to the end, and lacks the rest."""

    def __init__(self, provider_id: str) -> None:
        self._provider_id = provider_id

    @property
    def provider_id(self) -> str:
        return self._provider_id

    def stream(self, model: str, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        raise NotImplementedError

    async def invoke(self, model: str, request: ModelRequest) -> ModelAnswer:
        async with aclosing(self.stream(model, request)) as events:
            return await collect(events, self._provider_id, model)

    async def embed(
        self, model: str, texts: Sequence[str], *, dimensions: int = 0, caller: Caller = NOBODY
    ) -> Embeddings:
        self._lacks("embeddings", "embedding")

    async def rerank(
        self, model: str, query: str, documents: Sequence[str], top_k: int, *, caller: Caller = NOBODY
    ) -> Ranking:
        self._lacks("reranking", "rerank")

    async def count_tokens(self, model: str, request: ModelRequest) -> TokenCount:
        self._lacks("token counting", "llm")

    async def close(self) -> None:
        return None

    def _lacks(self, what: str, kind: str) -> NoReturn:
        raise NotAvailable(
            f"provider {self._provider_id!r} has no {what}; choose a model of type {kind} from another provider",
            reason=Reason.NOT_SUPPORTED_HERE,
        )


class AnswerBuilder:
    """Puts the events of one answer together, in their order and within `MAX_ANSWER_CHARS`."""

    def __init__(self, provider_id: str, model: str) -> None:
        self._provider_id = provider_id
        self._model = model
        self._parts: list[Part] = []
        self._open_text: list[str] = []
        self._open_reasoning: list[str] = []
        self._chars = 0
        self._usage = Usage()

    def add(self, event: ModelEvent) -> ModelAnswer | None:
        """Takes the next event; returns the answer with the last one."""
        match event:
            case TextDelta(text):
                self._close_reasoning()
                self._keep(text, self._open_text)
            case ReasoningDelta(text, signature, block):
                self._close_text()
                self._keep(text, self._open_reasoning)
                if signature or block:
                    # They end their block: what follows belongs to another one.
                    self._close_reasoning(signature, block)
            case ToolCallCompleted(call_id, name, arguments, signature):
                self._close_all()
                self._count(arguments)
                owner = self._provider_id if signature else ""
                self._parts.append(ToolCallPart(call_id, name, arguments, signature, owner))
            case ToolCallStarted() | ToolCallDelta():
                pass  # Provisional: the completed call repeats them.
            case UsageReported(usage):
                self._usage = usage
            case Completed(finish_reason, model_id):
                self._close_all()
                message = Message(MessageRole.ASSISTANT, tuple(self._parts))
                return ModelAnswer(message, self._usage, finish_reason, model_id)
            case _:
                assert_never(event)
        return None

    def unfinished(self) -> ModelBadOutput:
        """What to raise when the events ended without `Completed`."""
        return ModelBadOutput(
            f"the answer of model {self._model!r} of provider {self._provider_id!r} stopped before its end; ask again",
            provider_id=self._provider_id,
            model_id=self._model,
        )

    def _keep(self, text: str, pieces: list[str]) -> None:
        self._count(text)
        pieces.append(text)

    def _close_all(self) -> None:
        self._close_text()
        self._close_reasoning()

    def _close_text(self) -> None:
        if self._open_text:
            self._parts.append(TextPart("".join(self._open_text)))
            self._open_text.clear()

    def _close_reasoning(self, signature: str = "", block: str = "") -> None:
        if self._open_reasoning:
            text = "".join(self._open_reasoning)
            self._parts.append(ReasoningPart(text, signature, block, self._provider_id))
            self._open_reasoning.clear()

    def _count(self, text: str) -> None:
        self._chars += len(text)
        if self._chars > MAX_ANSWER_CHARS:
            raise ModelBadOutput(
                f"model {self._model!r} of provider {self._provider_id!r} answered more than {MAX_ANSWER_CHARS} "
                "characters and was cut off; set a limit for its output tokens",
                provider_id=self._provider_id,
                model_id=self._model,
            )


async def collect(events: AsyncIterator[ModelEvent], provider_id: str, model: str) -> ModelAnswer:
    """The whole answer of a stream; `ModelBadOutput` when it ends without `Completed`."""
    builder = AnswerBuilder(provider_id, model)
    async for event in events:
        answer = builder.add(event)
        if answer is not None:
            return answer
    raise builder.unfinished()
