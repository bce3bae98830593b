"""A question is answered once, in time, or never."""

import asyncio

import pytest

from portway.rpc.errors import NotFound
from portway.rpc.ids import new_id
from portway.server.interactions.store import (
    FIRST_PAGE,
    StoredInteractions,
    add_interaction,
    answer_interaction,
    expire_interactions,
    withdraw_interactions,
)
from portway.server.interactions.types import InteractionFilter, InteractionState, NewInteraction
from portway.server.runs.types import Fence
from portway.server.storage_engine.clock import SECOND, now
from portway.server.storage_engine.database import Database
from tests.contracts.store.given import WORKSPACE, an_executing_run


def a_question(interaction_id: str = "q1", expire_time: int = 0) -> NewInteraction:
    return NewInteraction(
        interaction_id=interaction_id,
        conversation_id="cnv_1",
        event_id="evt_1",
        agent_id="assistant",
        actor_id="",
        request=b"question",
        item_id="msg_1",
        delivery_id="dlv_1",
        expire_time=expire_time or now() + 600 * SECOND,
    )


async def asked(database: Database, question: NewInteraction) -> Fence:
    fence = await an_executing_run(database)
    await database.writer.run(lambda tx: add_interaction(tx, fence, question))
    return fence


async def test_of_many_answers_one_counts(database: Database) -> None:
    fence = await asked(database, a_question())
    stored = StoredInteractions(database.reader)
    question = await stored.interaction(WORKSPACE, fence.run_id, "q1")
    assert question.state is InteractionState.OPEN and question.request == b"question"

    async def answer(number: int) -> bool:
        event_id, run_id = new_id("evt"), new_id("run")
        given = f"answer {number}".encode()
        won = await database.writer.run(
            lambda tx: answer_interaction(
                tx, question, answer=given, request_id=f"r{number}", event_id=event_id, run_id=run_id
            )
        )
        return won is not None

    assert sum(await asyncio.gather(*(answer(number) for number in range(20)))) == 1
    found = await stored.interaction(WORKSPACE, fence.run_id, "q1")
    assert found.state is InteractionState.ANSWERED and found.answer == b"answer " + found.request_id[1:].encode()
    assert found.end_time and found.answer_run_id.startswith("run_")


async def test_what_is_too_late_is_not_answered_but_expires(database: Database) -> None:
    fence = await asked(database, a_question(expire_time=1))
    later = await asked(database, a_question())
    stored = StoredInteractions(database.reader)
    assert await stored.due() == 1
    question = await stored.interaction(WORKSPACE, fence.run_id, "q1")
    refused = await database.writer.run(
        lambda tx: answer_interaction(tx, question, answer=b"a", request_id="r", event_id="e", run_id="r")
    )
    assert refused is None
    closed = await database.writer.run(lambda tx: expire_interactions(tx, 10))
    assert [one.run_id for one in closed] == [fence.run_id]
    assert await database.writer.run(lambda tx: expire_interactions(tx, 10)) == []
    assert await stored.due() > now()
    withdrawn = await database.writer.run(lambda tx: withdraw_interactions(tx, WORKSPACE, later.run_id))
    assert [one.state for one in withdrawn] == [InteractionState.WITHDRAWN]
    assert await stored.due() == 0


async def test_pages_of_questions_and_what_is_not_there(database: Database) -> None:
    fences = [await asked(database, a_question(f"q{number}")) for number in range(5)]
    stored = StoredInteractions(database.reader)
    first = await stored.page(WORKSPACE, InteractionFilter(), FIRST_PAGE, 3)
    after = (first[-1].create_time, first[-1].run_id)
    rest = await stored.page(WORKSPACE, InteractionFilter(), after, 3)
    assert [one.interaction_id for one in first + rest] == ["q4", "q3", "q2", "q1", "q0"]
    of_run = InteractionFilter(run_id=fences[2].run_id, conversation_id="cnv_1", open_only=True)
    assert [one.interaction_id for one in await stored.page(WORKSPACE, of_run, FIRST_PAGE, 9)] == ["q2"]
    assert [one.interaction_id for one in await stored.of_run(WORKSPACE, fences[2].run_id)] == ["q2"]
    with pytest.raises(NotFound):
        await stored.interaction("another", fences[0].run_id, "q0")
