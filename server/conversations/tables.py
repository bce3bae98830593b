"""Tables of conversations, and which one each chat is in now."""

from sqlalchemy import Index, Table

from portway.server.storage_engine.columns import metadata, number, text

conversations = Table(
    "conversations",
    metadata,
    text("workspace_id", primary_key=True),
    text("conversation_id", primary_key=True),
    text("chat_key"),
    text("surface"),
    text("bot_id"),
    text("channel_id"),
    text("launcher_type"),
    text("launcher_id"),
    text("thread_id"),
    text("reply_target"),
    text("title"),
    text("forked_from"),
    number("forked_at"),
    text("state"),
    number("last_sequence"),
    number("create_time"),
    number("last_active_time"),
    number("close_time"),
    Index("conversations_by_activity", "workspace_id", "last_active_time", "conversation_id"),
    Index("conversations_by_chat", "workspace_id", "chat_key", "create_time"),
)

chats = Table(
    "chats",
    metadata,
    text("workspace_id", primary_key=True),
    text("chat_key", primary_key=True),
    text("conversation_id"),
)
