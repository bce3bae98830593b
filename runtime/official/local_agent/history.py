"""As much of the conversation as the budget allows, pulled backwards from the run's own message."""

from collections.abc import Sequence

from portway.runtime.official.local_agent.words import is_group, tokens_in
from portway.runtime.sdk import HostApi, MessageRole, ModelMessage, RunContext, TranscriptItem

MAX_MESSAGES = 400
FIRST_PAGE, NEXT_PAGE = 30, 100


async def pull_history(ctx: RunContext, host: HostApi, budget: int) -> Sequence[ModelMessage]:
    """Earlier messages in order of time, the newest ones that fit into `budget` tokens."""
    if not ctx.context.has_history_before or "page_history" not in ctx.context.available_calls:
        return ()
    kept: list[ModelMessage] = []
    cursor, limit = ctx.context.latest_cursor, FIRST_PAGE
    while len(kept) < MAX_MESSAGES:
        page = await host.history.page(before=cursor, limit=limit, artifacts=False)
        for item in reversed(page.items):
            message = _message_of(item, group=is_group(ctx))
            if message is None:
                continue
            budget -= tokens_in(message.text)
            if budget < 0 or len(kept) >= MAX_MESSAGES:
                return _from_person(kept)
            kept.append(message)
        cursor, limit = page.before_cursor, NEXT_PAGE
        if not cursor or not page.items:
            break
    return _from_person(kept)


def _message_of(item: TranscriptItem, *, group: bool) -> ModelMessage | None:
    if item.redacted or item.kind not in ("", "message") or not item.content:
        return None
    if item.role is MessageRole.ASSISTANT:
        return ModelMessage.assistant(item.content)
    if item.role is MessageRole.USER:
        author = f"{item.actor_name or item.actor_id}: " if group else ""
        return ModelMessage.user(author + item.content)
    return None


def _from_person(newest_first: list[ModelMessage]) -> Sequence[ModelMessage]:
    """In order of time, and beginning with what a person said: some models refuse it otherwise."""
    messages = newest_first[::-1]
    while messages and messages[0].role is not MessageRole.USER:
        messages.pop(0)
    return tuple(messages)
