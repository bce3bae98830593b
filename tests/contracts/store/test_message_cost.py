"""What one message costs the database, from its acceptance to its acknowledged reply."""

from dataclasses import replace

from portway.rpc.ids import new_id
from portway.server.conversations.store import enter_chat
from portway.server.deliveries.store import enqueue_delivery, record_outcome
from portway.server.deliveries.types import DeliveryState, Outcome
from portway.server.effects.store import finish_effect, plan_effect
from portway.server.effects.types import EffectState, Idempotency, NewEffect
from portway.server.events.store import append_event, find_duplicate
from portway.server.runs.attempts import add_run, begin_attempt, freeze_snapshot, settle_run
from portway.server.runs.ledger import append_ledger
from portway.server.runs.types import Fence, LedgerEntry, RunState, Settlement
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Transaction
from portway.server.transcript.store import append_items
from portway.server.transcript.types import Role
from tests.contracts.store.given import (
    WORKSPACE,
    a_conversation,
    a_delivery,
    a_run,
    an_attempt,
    an_event,
    an_item,
)


async def a_message(database: Database, chat: str) -> None:
    """A message, a run that calls a tool once, a reply in three flushes of the ledger, and its delivery."""
    writer = database.writer
    delivery_id = new_id("dlv")

    def accept(tx: Transaction) -> Fence:
        event = an_event()
        assert find_duplicate(tx, event) is None
        conversation, _ = enter_chat(tx, a_conversation(chat))
        accepted = append_event(tx, replace(event, conversation_id=conversation.conversation_id))
        append_items(tx, WORKSPACE, conversation.conversation_id, [an_item("run: echo hi")])
        run = a_run(conversation.conversation_id, accepted.sequence)
        return add_run(tx, replace(run, event_id=accepted.event_id))

    queued = await writer.run(accept)

    def start(tx: Transaction) -> Fence:
        freeze_snapshot(tx, WORKSPACE, queued.run_id, b"snapshot", b"context")
        return begin_attempt(tx, queued, database.epoch, an_attempt())

    fence = await writer.run(start)
    effect = NewEffect(
        effect_id=new_id("eff"), call_id="c1", tool="exec", idempotency=Idempotency.NOT_IDEMPOTENT, digest=b"d"
    )
    await writer.run(lambda tx: plan_effect(tx, fence, effect))

    def called(tx: Transaction) -> None:
        finish_effect(tx, WORKSPACE, effect.effect_id, EffectState.DONE, b"hi")
        append_ledger(tx, fence, 0, [LedgerEntry("tool_call_started", b"1"), LedgerEntry("tool_call_completed", b"2")])

    await writer.run(called)
    await writer.run(lambda tx: append_ledger(tx, fence, 2, [LedgerEntry("message_delta", b"3")]))

    def settle(tx: Transaction) -> None:
        append_ledger(tx, fence, 3, [LedgerEntry("message_completed", b"4"), LedgerEntry("run_completed", b"5")])
        conversation, _ = enter_chat(tx, a_conversation(chat))
        append_items(tx, WORKSPACE, conversation.conversation_id, [an_item("hi", Role.ASSISTANT)])
        enqueue_delivery(tx, replace(a_delivery(conversation.conversation_id), delivery_id=delivery_id))
        settle_run(tx, fence, Settlement(state=RunState.COMPLETED, finish_reason="stop"))

    await writer.run(settle)
    outcome = Outcome(state=DeliveryState.ACKNOWLEDGED)
    await writer.run(lambda tx: record_outcome(tx, WORKSPACE, delivery_id, outcome))


async def test_a_message_with_a_tool_call_costs_few_statements_and_commits(database: Database) -> None:
    await a_message(database, "chat")
    before = replace(database.writer.counters)
    await a_message(database, "chat")
    after = database.writer.counters
    commits, statements = after.commits - before.commits, after.statements - before.statements
    print(f"a message with a tool call: {commits} commits, {statements} statements")
    assert commits == 7
    assert statements <= 30
