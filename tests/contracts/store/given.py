"""Records for the store tests, with only what a test cares about spelled out."""

import hashlib
from dataclasses import replace

from portway.rpc.ids import new_id
from portway.server.conversations.store import enter_chat
from portway.server.conversations.types import Conversation, NewConversation
from portway.server.deliveries.types import NewDelivery
from portway.server.events.store import append_event
from portway.server.events.types import EventOutcome, NewEvent
from portway.server.runs.attempts import add_run, begin_attempt, freeze_snapshot
from portway.server.runs.types import Fence, NewAttempt, NewRun
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Transaction
from portway.server.transcript.types import NewItem, Role

WORKSPACE = "default"


def an_event(key: str = "", body: bytes = b"hello", workspace_id: str = WORKSPACE) -> NewEvent:
    return NewEvent(
        workspace_id=workspace_id,
        event_id=new_id("evt"),
        source="web_chat",
        dedupe_key=key or new_id("key"),
        body_hash=hashlib.sha256(body).digest(),
        type="message.received",
        event_time=1,
        payload=body,
        outcome=EventOutcome.RUN,
    )


def a_conversation(chat_key: str = "", workspace_id: str = WORKSPACE) -> NewConversation:
    conversation_id = new_id("cnv")
    return NewConversation(
        workspace_id=workspace_id,
        conversation_id=conversation_id,
        chat_key=chat_key or conversation_id,
        surface="web_chat",
        launcher_type="person",
        launcher_id="ada",
    )


def an_item(text: str, role: Role = Role.USER) -> NewItem:
    return NewItem(item_id=new_id("msg"), role=role, kind="message", text=text, content=text.encode())


def a_run(conversation_id: str = "cnv_1", event_sequence: int = 1, workspace_id: str = WORKSPACE) -> NewRun:
    return NewRun(
        workspace_id=workspace_id,
        run_id=new_id("run"),
        event_id=new_id("evt"),
        event_sequence=event_sequence,
        conversation_id=conversation_id,
        agent_id="assistant",
        agent_revision=1,
        binding_id="default",
        runner_id="plugin:portway/local-agent/default",
    )


def an_attempt() -> NewAttempt:
    token_id = new_id("att")
    return NewAttempt(
        token_id=token_id,
        token_hash=hashlib.sha256(token_id.encode()).digest(),
        plugin_id="portway/local-agent",
        runtime_generation="1",
        deadline=2**50,
    )


def a_delivery(conversation_id: str = "cnv_1", surface: str = "web_chat") -> NewDelivery:
    return NewDelivery(
        workspace_id=WORKSPACE,
        delivery_id=new_id("dlv"),
        conversation_id=conversation_id,
        surface=surface,
        bot_id="",
        target=b"target",
        payload=b"payload",
    )


async def an_open_conversation(database: Database, chat_key: str = "") -> Conversation:
    conversation, _ = await database.writer.run(lambda tx: enter_chat(tx, a_conversation(chat_key)))
    return conversation


async def a_queued_run(database: Database, conversation_id: str = "cnv_1") -> Fence:
    """A run whose event is in the log."""

    def unit(tx: Transaction) -> Fence:
        accepted = append_event(tx, an_event())
        return add_run(tx, replace(a_run(conversation_id, accepted.sequence), event_id=accepted.event_id))

    return await database.writer.run(unit)


async def an_executing_run(database: Database, conversation_id: str = "cnv_1") -> Fence:
    """A run in its first attempt, under this host's epoch."""
    queued = await a_queued_run(database, conversation_id)

    def unit(tx: Transaction) -> Fence:
        freeze_snapshot(tx, queued.workspace_id, queued.run_id, b"snapshot", b"context")
        return begin_attempt(tx, queued, database.epoch, an_attempt())

    return await database.writer.run(unit)
