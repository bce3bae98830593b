"""Where messages belong."""

from dataclasses import dataclass
from enum import StrEnum


class ConversationState(StrEnum):
    """An OPEN conversation is its chat's current one. A CLOSED one is kept and can be read."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConversation:
    """`chat_key` names the chat (its surface, bot, launcher and thread in one); the rest is where replies go."""

    workspace_id: str
    conversation_id: str
    chat_key: str
    surface: str = ""
    bot_id: str = ""
    channel_id: str = ""
    launcher_type: str = ""
    launcher_id: str = ""
    thread_id: str = ""
    reply_target: str = ""
    title: str = ""
    forked_from: str = ""
    forked_at: int = 0


@dataclass(frozen=True, slots=True)
class Conversation:
    """`last_sequence` is that of its newest transcript item; times are microseconds, 0 for none."""

    workspace_id: str
    conversation_id: str
    chat_key: str
    surface: str
    bot_id: str
    channel_id: str
    launcher_type: str
    launcher_id: str
    thread_id: str
    reply_target: str
    title: str
    forked_from: str
    forked_at: int
    state: ConversationState
    last_sequence: int
    create_time: int
    last_active_time: int
    close_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationCursor:
    """Where a page goes on: the place of its last item."""

    last_active_time: int
    conversation_id: str
