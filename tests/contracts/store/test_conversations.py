"""Conversations: a chat is in one at a time."""

import asyncio
from functools import partial

import pytest

from portway.rpc.errors import NotFound
from portway.server.conversations.store import (
    FIRST_PAGE,
    StoredConversations,
    begin_conversation,
    enter_chat,
    leave_chat,
    set_title,
)
from portway.server.conversations.types import ConversationCursor, ConversationState
from portway.server.storage_engine.database import Database
from portway.server.transcript.store import append_items
from tests.contracts.store.given import WORKSPACE, a_conversation, an_item, an_open_conversation


async def test_many_messages_at_once_in_a_new_chat_enter_one_conversation(database: Database) -> None:
    offers = [a_conversation("chat") for _ in range(50)]
    entered = await asyncio.gather(*(database.writer.run(partial(enter_chat, new=offer)) for offer in offers))
    assert len({conversation.conversation_id for conversation, _ in entered}) == 1
    assert sum(begun for _, begun in entered) == 1


async def test_what_is_entered_is_what_is_read(database: Database) -> None:
    offered = a_conversation("chat")
    entered, _ = await database.writer.run(lambda tx: enter_chat(tx, offered))
    conversations = StoredConversations(database.reader)
    assert await conversations.conversation(WORKSPACE, offered.conversation_id) == entered
    assert await conversations.current(WORKSPACE, "chat") == entered
    with pytest.raises(NotFound):
        await conversations.conversation("other", offered.conversation_id)


async def test_a_reset_chat_begins_anew_and_keeps_the_old_conversation(database: Database) -> None:
    old = await an_open_conversation(database, "chat")
    await database.writer.run(lambda tx: leave_chat(tx, WORKSPACE, "chat"))
    conversations = StoredConversations(database.reader)
    with pytest.raises(NotFound):
        await conversations.current(WORKSPACE, "chat")
    new = await an_open_conversation(database, "chat")
    assert new.conversation_id != old.conversation_id
    closed = await conversations.conversation(WORKSPACE, old.conversation_id)
    assert (closed.state, closed.close_time > 0) == (ConversationState.CLOSED, True)


async def test_a_chat_that_was_idle_too_long_begins_anew(database: Database) -> None:
    old = await an_open_conversation(database, "chat")
    kept, begun = await database.writer.run(lambda tx: enter_chat(tx, a_conversation("chat"), 60_000_000))
    assert (kept.conversation_id, begun) == (old.conversation_id, False)
    await database.writer.run(lambda tx: tx.execute("UPDATE conversations SET last_active_time = 1"))
    new, begun = await database.writer.run(lambda tx: enter_chat(tx, a_conversation("chat"), 60_000_000))
    assert begun and new.conversation_id != old.conversation_id
    still, begun = await database.writer.run(lambda tx: enter_chat(tx, a_conversation("chat"), 0))
    assert (still.conversation_id, begun) == (new.conversation_id, False)


async def test_a_fork_becomes_the_current_conversation(database: Database) -> None:
    old = await an_open_conversation(database, "chat")
    fork = await database.writer.run(lambda tx: begin_conversation(tx, a_conversation("chat")))
    assert (await StoredConversations(database.reader).current(WORKSPACE, "chat")).conversation_id == (
        fork.conversation_id
    )
    assert (await StoredConversations(database.reader).conversation(WORKSPACE, old.conversation_id)).state is (
        ConversationState.CLOSED
    )


async def test_the_list_begins_with_the_last_active_and_goes_on(database: Database) -> None:
    made = [await an_open_conversation(database) for _ in range(4)]
    await database.writer.run(lambda tx: append_items(tx, WORKSPACE, made[0].conversation_id, [an_item("again")]))
    conversations = StoredConversations(database.reader)
    first = await conversations.page(WORKSPACE, "", FIRST_PAGE, 2)
    after = ConversationCursor(last_active_time=first[-1].last_active_time, conversation_id=first[-1].conversation_id)
    rest = await conversations.page(WORKSPACE, "", after, 9)
    expected = [made[0], made[3], made[2], made[1]]
    assert [c.conversation_id for c in first + rest] == [c.conversation_id for c in expected]
    assert first[0].last_sequence == 1
    assert await conversations.page(WORKSPACE, "telegram", FIRST_PAGE, 9) == []


async def test_a_title_can_be_set(database: Database) -> None:
    made = await an_open_conversation(database)
    await database.writer.run(lambda tx: set_title(tx, WORKSPACE, made.conversation_id, "Plans"))
    assert (await StoredConversations(database.reader).conversation(WORKSPACE, made.conversation_id)).title == "Plans"
    with pytest.raises(NotFound):
        await database.writer.run(lambda tx: set_title(tx, WORKSPACE, "cnv_0", "Plans"))
