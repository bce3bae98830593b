"""The conversation, pulled backwards from the run's own message."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from portway.runtime.official.local_agent.context.tokens import tokens_of
from portway.runtime.official.local_agent.context.words import is_group, without_files
from portway.runtime.sdk import (
    HostApi,
    ImagePart,
    MessageRole,
    ModelMessage,
    Part,
    RunContext,
    TranscriptItem,
    text_part,
)
from portway.runtime.sdk.types.content import AnswerPart, QuestionPart

# How far back a run looks at most, whatever its budget: 15 calls.
MAX_SCANNED = 1_400
FIRST_PAGE, NEXT_PAGE = 30, 100
# Parts of a message that a model takes.
MAX_PARTS = 200


@dataclass(frozen=True, slots=True)
class Said:
    """One message of the conversation."""

    message: ModelMessage
    tokens: int
    cursor: str


@dataclass(frozen=True, slots=True)
class Pulled:
    """Messages in order of time. `mark` is the item at the cursor that was looked for; `is_all`: nothing is older."""

    said: Sequence[Said] = ()
    mark: TranscriptItem | None = None
    is_all: bool = True

    @property
    def tokens(self) -> int:
        return sum(one.tokens for one in self.said)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back to look: until so many tokens or items are exceeded, or the item at `mark` is found."""

    tokens: int
    items: int
    images: int
    mark: str = ""
    # Events whose messages the run has already, and runs that said them.
    without: frozenset[str] = frozenset()


async def pull_history(ctx: RunContext, host: HostApi, reach: Reach) -> Pulled:
    """Earlier messages up to the first one that exceeds `reach`, which is among them."""
    if not ctx.context.has_history_before or "page_history" not in ctx.context.available_calls or not reach.items:
        return Pulled()
    reading = _Reading(ctx, reach)
    cursor, limit = ctx.context.latest_cursor, FIRST_PAGE
    while True:
        page = await host.history.page(before=cursor, limit=limit, artifacts=False)
        for item in reversed(page.items):
            if reading.take(item):
                return reading.pulled(is_all=False)
        cursor, limit = page.before_cursor, NEXT_PAGE
        if not cursor or not page.items:
            return reading.pulled(is_all=True)


class _Reading:
    def __init__(self, ctx: RunContext, reach: Reach) -> None:
        self._group = is_group(ctx)
        self._reach = reach
        self._images = reach.images
        self._tokens = 0
        self._scanned = 0
        self._newest_first: list[Said] = []
        self._mark: TranscriptItem | None = None

    def take(self, item: TranscriptItem) -> bool:
        """Whether that was far enough."""
        reach = self._reach
        self._scanned += 1
        if reach.mark and item.cursor == reach.mark:
            self._mark = item
            return True
        message = self._message_of(item)
        if message is not None:
            said = Said(message, tokens_of((message,)), item.cursor)
            self._newest_first.append(said)
            self._tokens += said.tokens
        enough = self._tokens > reach.tokens or len(self._newest_first) > reach.items
        return enough or self._scanned >= MAX_SCANNED

    def pulled(self, *, is_all: bool) -> Pulled:
        return Pulled(tuple(reversed(self._newest_first)), self._mark, is_all)

    def _message_of(self, item: TranscriptItem) -> ModelMessage | None:
        if item.redacted or item.kind not in ("", "message", "interaction"):
            return None
        if {item.event_id, item.run_id} & self._reach.without - {""}:
            return None
        parts = item.parts or ((text_part(item.content),) if item.content else ())
        if item.kind == "interaction":
            return _question_of(parts)
        if item.role is MessageRole.ASSISTANT:
            return _spoken(MessageRole.ASSISTANT, without_files(parts, pictures=False))
        if item.role is MessageRole.USER:
            author = [text_part(f"{item.actor_name or item.actor_id}: ")] if self._group else []
            told = list(without_files(parts, pictures=self._images > 0))
            self._images -= sum(isinstance(part.content, ImagePart) for part in told)
            return _spoken(MessageRole.USER, [*author, *told]) if told else None
        return None


def fitting(said: Sequence[Said], tokens: int, items: int) -> Sequence[Said]:
    """The newest of them that fit, beginning with what a person said: some models refuse it otherwise."""
    kept: list[Said] = []
    for one in reversed(said):
        tokens -= one.tokens
        if tokens < 0 or len(kept) >= items:
            break
        kept.append(one)
    newest = kept[::-1]
    while newest and newest[0].message.role is not MessageRole.USER:
        newest.pop(0)
    return newest


def changed_since(item: TranscriptItem, time: datetime) -> bool:
    """Whether it does not read as it did then."""
    return item.redacted or (item.edit_time is not None and item.edit_time > time)


def _question_of(parts: Sequence[Part]) -> ModelMessage | None:
    """A question is the agent's; its answer is what a person chose. Approvals are no part of the conversation."""
    for part in parts:
        if isinstance(part.content, QuestionPart) and not part.content.approval_id:
            return _spoken(MessageRole.ASSISTANT, without_files((part,), pictures=False))
        if isinstance(part.content, AnswerPart):
            return _spoken(MessageRole.USER, without_files((part,), pictures=False))
    return None


def _spoken(role: MessageRole, parts: Iterable[Part]) -> ModelMessage | None:
    kept = tuple(parts)[:MAX_PARTS]
    return ModelMessage(role, kept) if kept else None
