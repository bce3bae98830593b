"""Reading conversations and what was said in them."""

from dataclasses import dataclass

from portway.server.conversations.store import Conversations
from portway.server.conversations.types import Conversation, ConversationCursor
from portway.server.runs.store import Runs
from portway.server.transcript.store import Transcript
from portway.server.transcript.types import Order, PageQuery, TranscriptItem

END = 2**62


@dataclass(frozen=True, slots=True)
class ConversationSeen:
    """A conversation with how many of its runs wait or execute."""

    conversation: Conversation
    open_runs: int


@dataclass(frozen=True, slots=True)
class TranscriptPage:
    """Items in order of time. `older`: there are some before the first."""

    items: tuple[TranscriptItem, ...]
    older: bool


class ConversationReader:
    """What can be read of the conversations of a workspace."""

    def __init__(self, conversations: Conversations, transcript: Transcript, runs: Runs) -> None:
        self._conversations = conversations
        self._transcript = transcript
        self._runs = runs

    async def conversation(self, workspace_id: str, conversation_id: str) -> ConversationSeen:
        """Raises NotFound."""
        return await self._seen(await self._conversations.conversation(workspace_id, conversation_id))

    async def page(
        self, workspace_id: str, surface: str, after: ConversationCursor, limit: int
    ) -> list[ConversationSeen]:
        """The last used first."""
        found = await self._conversations.page(workspace_id, surface, after, limit)
        return [await self._seen(one) for one in found]

    async def messages(
        self, workspace_id: str, conversation_id: str, *, before: int | None, after: int | None, limit: int
    ) -> TranscriptPage:
        """The last page, the one before a sequence, or what is newer than one. Raises NotFound."""
        await self._conversations.conversation(workspace_id, conversation_id)
        forward = after is not None
        cursor = after if after is not None else (END if before is None else before)
        query = PageQuery(
            conversation_id=conversation_id,
            cursor=cursor,
            limit=limit + 1,
            order=Order.FORWARD if forward else Order.BACKWARD,
        )
        found = await self._transcript.page(workspace_id, query)
        within = [item for item in found if before is None or item.sequence < before]
        if forward:
            items = within[:limit]
            return TranscriptPage(tuple(items), bool(items) and items[0].sequence > 1)
        return TranscriptPage(tuple(within[:limit][::-1]), len(within) > limit)

    async def _seen(self, conversation: Conversation) -> ConversationSeen:
        workspace_id, conversation_id = conversation.workspace_id, conversation.conversation_id
        return ConversationSeen(conversation, await self._runs.open_count(workspace_id, conversation_id))
