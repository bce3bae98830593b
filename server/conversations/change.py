"""Resetting a chat, and forking a conversation."""

from portway.rpc.errors import NotFound
from portway.rpc.ids import derived_id
from portway.server.conversations.store import begin_conversation, leave_chat, read_conversation
from portway.server.conversations.types import Conversation, NewConversation
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.server.transcript.store import Transcript, copy_items

SURFACE_OF_FORKS = "api"


class ConversationKeeper:
    """Changes conversations, each change in one transaction."""

    def __init__(self, writer: Writer, transcript: Transcript) -> None:
        self._writer = writer
        self._transcript = transcript

    async def reset(self, workspace_id: str, conversation_id: str) -> Conversation:
        """The chat leaves this conversation; one that is not its chat's current one stays as it is. Raises NotFound."""

        def unit(tx: Transaction) -> Conversation:
            found = read_conversation(tx, workspace_id, conversation_id)
            if not found.close_time:
                leave_chat(tx, workspace_id, found.chat_key)
            return read_conversation(tx, workspace_id, conversation_id)

        return await self._writer.run(unit)

    async def fork(self, workspace_id: str, conversation_id: str, item_id: str, request_id: str) -> Conversation:
        """A new conversation with the messages up to an item ('': all). The same request answers with the first fork.

        Raises NotFound (conversation, or an item that is not in it).
        """
        until = await self._sequence(workspace_id, conversation_id, item_id)
        fork_id = derived_id("cnv", workspace_id, conversation_id, request_id)

        def unit(tx: Transaction) -> Conversation:
            source = read_conversation(tx, workspace_id, conversation_id)
            try:
                return read_conversation(tx, workspace_id, fork_id)
            except NotFound:
                pass  # Asked for the first time.
            last = source.last_sequence if until is None else until
            begin_conversation(tx, _fork_of(source, fork_id, last))
            copy_items(tx, workspace_id, conversation_id, fork_id, last)
            return read_conversation(tx, workspace_id, fork_id)

        return await self._writer.run(unit)

    async def _sequence(self, workspace_id: str, conversation_id: str, item_id: str) -> int | None:
        if not item_id:
            return None
        item = await self._transcript.item(workspace_id, item_id)
        if item.conversation_id != conversation_id:
            raise NotFound.of("message", item_id)
        return item.sequence


def _fork_of(source: Conversation, fork_id: str, last: int) -> NewConversation:
    # A fork belongs to no chat of a platform: nobody there would know why two answers come.
    return NewConversation(
        workspace_id=source.workspace_id,
        conversation_id=fork_id,
        chat_key=f"id/{fork_id}",
        surface=SURFACE_OF_FORKS,
        launcher_type=SURFACE_OF_FORKS,
        launcher_id=fork_id,
        title=source.title,
        forked_from=source.conversation_id,
        forked_at=last,
    )
