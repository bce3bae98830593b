"""Where conversations are kept."""

from typing import Protocol

from portway.rpc.errors import NotFound
from portway.server.conversations.types import Conversation, ConversationCursor, ConversationState, NewConversation
from portway.server.storage_engine.clock import Micros
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, typed, values
from portway.server.storage_engine.transaction import ReadTransaction, Row, Transaction

_COLUMNS = columns(Conversation)
_BY_ID = (
    f"SELECT {_COLUMNS} FROM conversations WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id"
)
_CURRENT = f"""
SELECT {_COLUMNS} FROM conversations WHERE workspace_id = :workspace_id AND conversation_id =
  (SELECT conversation_id FROM chats WHERE workspace_id = :workspace_id AND chat_key = :chat_key)
"""
_POINT = """
INSERT INTO chats (workspace_id, chat_key, conversation_id) VALUES (:workspace_id, :chat_key, :conversation_id)
ON CONFLICT (workspace_id, chat_key) DO UPDATE SET conversation_id = :conversation_id
"""
_CLOSE = """
UPDATE conversations SET state = 'closed', close_time = :now
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id AND state = 'open'
"""
_PAGE = f"""
SELECT {_COLUMNS} FROM conversations
WHERE workspace_id = :workspace_id AND (last_active_time, conversation_id) < (:last_active_time, :conversation_id)
  AND (:surface = '' OR surface = :surface)
ORDER BY last_active_time DESC, conversation_id DESC LIMIT :limit
"""
_TITLE = """
UPDATE conversations SET title = :title WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id
"""

FIRST_PAGE = ConversationCursor(last_active_time=2**62, conversation_id="")


class Conversations(Protocol):
    """What can be asked about conversations."""

    async def conversation(self, workspace_id: str, conversation_id: str) -> Conversation:
        """Raises NotFound."""

    async def current(self, workspace_id: str, chat_key: str) -> Conversation:
        """The conversation that the chat is in now. Raises NotFound."""

    async def page(self, workspace_id: str, surface: str, after: ConversationCursor, limit: int) -> list[Conversation]:
        """Last active first, after the cursor (FIRST_PAGE to begin); `surface` '' for all."""


def enter_chat(tx: Transaction, new: NewConversation, idle_limit: Micros = 0) -> tuple[Conversation, bool]:
    """The chat's current conversation; `new` is begun when it has none or was idle for longer (0: never).

    True when begun.
    """
    row = tx.one(_CURRENT, {"workspace_id": new.workspace_id, "chat_key": new.chat_key})
    if row is not None:
        current = _conversation(row)
        if not idle_limit or tx.now - current.last_active_time <= idle_limit:
            return current, False
    return begin_conversation(tx, new), True


def begin_conversation(tx: Transaction, new: NewConversation) -> Conversation:
    """Begin a conversation and make it the chat's current one; the one before is closed."""
    leave_chat(tx, new.workspace_id, new.chat_key)
    row = values(
        new, state=ConversationState.OPEN, last_sequence=0, create_time=tx.now, last_active_time=tx.now, close_time=0
    )
    tx.insert_many("conversations", [row])
    tx.execute(
        _POINT,
        {"workspace_id": new.workspace_id, "chat_key": new.chat_key, "conversation_id": new.conversation_id},
    )
    return Conversation(
        **values(new),  # type: ignore[arg-type]  # the fields of NewConversation, by name
        state=ConversationState.OPEN,
        last_sequence=0,
        create_time=tx.now,
        last_active_time=tx.now,
        close_time=0,
    )


def leave_chat(tx: Transaction, workspace_id: str, chat_key: str) -> None:
    """Close the chat's current conversation, if any: the next message begins a new one. This is a reset."""
    row = tx.one(
        "DELETE FROM chats WHERE workspace_id = :workspace_id AND chat_key = :chat_key RETURNING conversation_id",
        {"workspace_id": workspace_id, "chat_key": chat_key},
    )
    if row is not None:
        tx.execute(_CLOSE, {"workspace_id": workspace_id, "conversation_id": row[0], "now": tx.now})


def set_title(tx: Transaction, workspace_id: str, conversation_id: str, title: str) -> None:
    """Raises NotFound."""
    params = {"workspace_id": workspace_id, "conversation_id": conversation_id, "title": title}
    if not tx.execute(_TITLE, params):
        raise NotFound.of("conversation", conversation_id)


def read_conversation(tx: ReadTransaction, workspace_id: str, conversation_id: str) -> Conversation:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id, "conversation_id": conversation_id})
    if row is None:
        raise NotFound.of("conversation", conversation_id)
    return _conversation(row)


def _conversation(row: Row) -> Conversation:
    return Conversation(*typed(row, (13, ConversationState)))


class StoredConversations:
    """Conversations in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def conversation(self, workspace_id: str, conversation_id: str) -> Conversation:
        return await self._reader.look(lambda tx: read_conversation(tx, workspace_id, conversation_id))

    async def current(self, workspace_id: str, chat_key: str) -> Conversation:
        params = {"workspace_id": workspace_id, "chat_key": chat_key}
        row = await self._reader.look(lambda tx: tx.one(_CURRENT, params))
        if row is None:
            raise NotFound.of("conversation of chat", chat_key)
        return _conversation(row)

    async def page(self, workspace_id: str, surface: str, after: ConversationCursor, limit: int) -> list[Conversation]:
        params = values(after, workspace_id=workspace_id, surface=surface, limit=limit)
        return [_conversation(row) for row in await self._reader.run(lambda tx: tx.all(_PAGE, params))]
