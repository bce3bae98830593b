"""The demo provider: no key, no network, and always the same answer to the same messages.

It shows that everything around a model works before a real one is connected, so it says in every answer what it is.

| model | answer |
| --- | --- |
| `demo` | repeats the message and says what it sees; `run: COMMAND` calls the tool `exec` and reports its result |
| `demo-20` | a fixed sentence in exactly 20 chunks, to measure what surrounds a model |
| `demo-slow` | as `demo`, with a configured pause before each chunk, so that a person or a test can step in |
| `demo-embed` | a vector of the words of a text: texts that share words are near each other |
| `demo-rerank` | documents by the share of the query's words that they hold |

One chunk is one word with the space after it, or 16 characters of a longer word or of a language without spaces:
`chunks_of(text)` gives exactly the chunks that are streamed. Tokens are counted in such chunks too.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncGenerator, Iterator, Sequence

from portway.server.models.config import DemoConfig
from portway.server.models.demo_words import DIMENSIONS, score_of, vector_of
from portway.server.models.errors import ModelNotFound
from portway.server.models.provider import (
    NOBODY,
    Embeddings,
    RankedDocument,
    Ranking,
    StreamingProvider,
    TokenCount,
)
from portway.server.models.types import (
    Caller,
    Capability,
    Completed,
    FinishReason,
    ImagePart,
    Keeping,
    ManagedBy,
    Message,
    MessageRole,
    ModelEvent,
    ModelInfo,
    ModelKind,
    ModelRequest,
    ProviderInfo,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallPart,
    ToolCallStarted,
    ToolChoiceMode,
    ToolResultPart,
    Usage,
    UsageReported,
)

PROVIDER_ID = "demo"
DEMO, DEMO_20, DEMO_SLOW = "demo", "demo-20", "demo-slow"
DEMO_EMBED, DEMO_RERANK = "demo-embed", "demo-rerank"
EXEC_TOOL = "exec"

FIXED_ANSWER = (
    "This is the demo model's fixed answer of exactly twenty words, "
    "sent in twenty chunks, to measure everything around it."
)

_CONTEXT_WINDOW = 1_000_000
_MAX_WORD = 16
_MAX_ECHO = 2000
# A line that begins with `run:` (or the full-width colon of East Asian keyboards) and everything after it.
_RUN = re.compile(r"^[ \t]*run[:\uff1a](?P<command>.*)", re.IGNORECASE | re.DOTALL | re.MULTILINE)
_EXIT_LINE = re.compile(r"exit code (?P<code>-?\d+)\Z")


def models() -> tuple[ModelInfo, ...]:
    """The models that the provider serves."""
    full = frozenset({Capability.TOOLS, Capability.IMAGES})
    served = {DEMO: full, DEMO_20: frozenset[Capability](), DEMO_SLOW: full}
    writing = (_model(name, ModelKind.LLM, capabilities) for name, capabilities in served.items())
    return (*writing, _model(DEMO_EMBED, ModelKind.EMBEDDING), _model(DEMO_RERANK, ModelKind.RERANK))


def _model(name: str, kind: ModelKind, capabilities: frozenset[Capability] = frozenset()) -> ModelInfo:
    return ModelInfo(
        name,
        name,
        PROVIDER_ID,
        PROVIDER_ID,
        kind,
        context_window=_CONTEXT_WINDOW,
        capabilities=capabilities,
        dimensions=DIMENSIONS if kind is ModelKind.EMBEDDING else 0,
        keeping=Keeping(ManagedBy.HOST),
    )


def provider_info() -> ProviderInfo:
    """The provider itself."""
    return ProviderInfo(PROVIDER_ID, PROVIDER_ID, keeping=Keeping(ManagedBy.HOST))


def chunks_of(text: str) -> list[str]:
    """The chunks in which a text is streamed; joined they are the text."""
    words = re.findall(r"\s*\S+\s*|\s+", text)
    return [word[at : at + _MAX_WORD] for word in words for at in range(0, len(word), _MAX_WORD)]


class DemoProvider(StreamingProvider):
    """Answers from the messages alone; it keeps nothing between calls."""

    def __init__(self, config: DemoConfig) -> None:
        super().__init__(PROVIDER_ID)
        self._pauses = {DEMO: 0.0, DEMO_20: 0.0, DEMO_SLOW: config.slow_chunk_seconds}

    async def stream(self, model: str, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        pause = self._pause(model)
        call = None if model == DEMO_20 else _wanted_call(request)
        text = FIXED_ANSWER if model == DEMO_20 else _text_before(call, request)
        pieces = chunks_of(text)
        kept = pieces[: request.max_output_tokens]
        for piece in kept:
            await _pause(pause)
            yield TextDelta(piece)
        cut = len(kept) < len(pieces)
        if call is not None and not cut:
            await _pause(pause)
            for event in _call_events(call):
                yield event
        yield UsageReported(Usage(_input_tokens(request), len(kept), 0, 0))
        reason = FinishReason.LENGTH if cut else FinishReason.TOOL_CALLS if call else FinishReason.STOP
        yield Completed(reason, model)

    async def count_tokens(self, model: str, request: ModelRequest) -> TokenCount:
        self._pause(model)
        return TokenCount(_input_tokens(request), estimated=False)

    async def embed(
        self, model: str, texts: Sequence[str], *, dimensions: int = 0, caller: Caller = NOBODY
    ) -> Embeddings:
        vectors = tuple(vector_of(text, dimensions or DIMENSIONS) for text in texts)
        return Embeddings(vectors, _text_usage(*texts))

    async def rerank(
        self, model: str, query: str, documents: Sequence[str], top_k: int, *, caller: Caller = NOBODY
    ) -> Ranking:
        found = [RankedDocument(index, score_of(query, document)) for index, document in enumerate(documents)]
        found.sort(key=lambda one: (-one.score, one.index))
        return Ranking(tuple(found[: top_k or None]), _text_usage(query, *documents))

    def _pause(self, model: str) -> float:
        if model not in self._pauses:
            known = ", ".join(self._pauses)
            raise ModelNotFound(
                f"the demo provider has no model {model!r}; it has {known}", provider_id=PROVIDER_ID, model_id=model
            )
        return self._pauses[model]


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


def _wanted_call(request: ModelRequest) -> ToolCallPart | None:
    """The call to `exec` that the last message asks for, if it may be made."""
    command = _command_of(request)
    if command is None or not _exec_offered(request):
        return None
    arguments = json.dumps({"command": command}, ensure_ascii=False)
    # The same messages give the same id; a later call of the same conversation gives another one.
    digest = hashlib.sha256(f"{len(request.messages)}\0{arguments}".encode()).hexdigest()
    return ToolCallPart(f"call_{digest[:24]}", EXEC_TOOL, arguments)


def _command_of(request: ModelRequest) -> str | None:
    last = request.messages[-1] if request.messages else None
    if last is None or last.role is not MessageRole.USER:
        return None
    found = _RUN.search(last.text)
    return found["command"].strip() or None if found else None


def _exec_offered(request: ModelRequest) -> bool:
    allowed = request.tool_choice.mode is not ToolChoiceMode.NONE
    return allowed and any(tool.name == EXEC_TOOL for tool in request.tools)


def _call_events(call: ToolCallPart) -> Iterator[ModelEvent]:
    yield ToolCallStarted(call.call_id, call.name)
    for piece in chunks_of(call.arguments_json):
        yield ToolCallDelta(call.call_id, piece)
    yield ToolCallCompleted(call.call_id, call.name, call.arguments_json)


def _text_before(call: ToolCallPart | None, request: ModelRequest) -> str:
    """The text of the answer; with a call, what is said before it."""
    results = _last_results(request)
    if results:
        return "\n\n".join(_report(result) for result in results)
    if call is not None:
        return "This is the demo model. It runs your command in the sandbox now.\n\n"
    if _command_of(request) is not None:
        return (
            "This is the demo model. You asked it to run a command, but the tool `exec` is not offered to this agent, "
            "so nothing was run. Allow the native tools in the agent's box policy, and see `portway status` for "
            "whether the box is available."
        )
    return _greeting(request)


def _last_results(request: ModelRequest) -> list[ToolResultPart]:
    """The results that follow the last message of the assistant or the user."""
    results: list[ToolResultPart] = []
    for message in reversed(request.messages):
        if message.role is not MessageRole.TOOL:
            break
        results[:0] = [part for part in message.parts if isinstance(part, ToolResultPart)]
    return results


def _report(result: ToolResultPart) -> str:
    if result.is_error:
        return f"This is the demo model. The tool `{result.name}` failed:\n\n{_fenced(result.text)}"
    first, _, rest = result.text.partition("\n")
    found = _EXIT_LINE.match(first)
    if found is None:
        return f"This is the demo model. The tool `{result.name}` answered:\n\n{_fenced(result.text)}"
    code, output = found["code"], rest
    if not output.strip():
        return f"This is the demo model. The command ended with exit code {code} and printed nothing."
    return f"This is the demo model. The command ended with exit code {code}. Its output:\n\n{_fenced(output)}"


def _fenced(text: str) -> str:
    """The text as a Markdown block, with a fence longer than any inside it."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}\n{text.rstrip()}\n{fence}"


def _greeting(request: ModelRequest) -> str:
    last = next((m for m in reversed(request.messages) if m.role is MessageRole.USER), None)
    if last is None:
        return "This is the demo model, no real one is connected. There is no message from a person yet."
    seen = sum(m.role in (MessageRole.USER, MessageRole.ASSISTANT) for m in request.messages) - 1
    before = {0: "No message", 1: "1 message"}.get(seen, f"{seen} messages")
    pictures = sum(isinstance(part, ImagePart) for part in last.parts)
    with_it = f" (with {pictures} picture{'s' if pictures > 1 else ''})" if pictures else ""
    said = last.text.strip()
    if len(said) > _MAX_ECHO:
        said = said[:_MAX_ECHO] + " … (shortened)"
    quoted = "\n".join(f"> {line}" for line in said.splitlines()) or "> (no text)"
    return (
        f"Demo model, no real one connected. You wrote{with_it}:\n\n{quoted}\n\n"
        f"{before} before it. Write `run: COMMAND` to use the sandbox."
    )


def _text_usage(*texts: str) -> Usage:
    return Usage(sum(len(chunks_of(text)) for text in texts), 0, 0, 0)


def _input_tokens(request: ModelRequest) -> int:
    return sum(len(chunks_of(_words(message))) for message in request.messages)


def _words(message: Message) -> str:
    texts: list[str] = []
    for part in message.parts:
        match part:
            case TextPart(text) | ToolResultPart(_, _, text):
                texts.append(text)
            case ToolCallPart(_, _, arguments):
                texts.append(arguments)
            case ReasoningPart() | ImagePart():
                pass
    return " ".join(texts)
