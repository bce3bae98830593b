from portway.server.spending.store import StoredSpending, record_spending
from portway.server.spending.types import Amounts, Group, Level, SpendingRow, Subject
from portway.server.storage_engine.database import Database

MONTH = 202611


def a_row(
    run_id: str = "r1", day: int = 20261121, model_id: str = "m", workspace_id: str = "w", **more: str
) -> SpendingRow:
    return SpendingRow(
        workspace_id=workspace_id,
        run_id=run_id,
        attempt=1,
        day=day,
        model_id=model_id,
        agent_id=more.get("agent_id", "a"),
        conversation_id=more.get("conversation_id", "c"),
        currency="USD",
        amounts=Amounts(cost_micros=3, input_tokens=5, output_tokens=7, calls=1, bytes=11, time_micros=13),
    )


async def test_rows_of_an_attempt_are_replaced_and_those_of_others_added(database: Database) -> None:
    store = StoredSpending(database.reader)
    for _ in range(2):
        await database.writer.run(lambda tx: record_spending(tx, [a_row(), a_row(model_id="")]))
    await database.writer.run(lambda tx: record_spending(tx, [a_row("r2"), a_row("r3", workspace_id="other")]))
    whole = await store.spent(Subject(Level.WORKSPACE, "w", "w", MONTH))
    assert whole.amounts == Amounts(9, 15, 21, 3, 33, 39)
    assert whole.currency == "USD"
    assert (await store.spent(Subject(Level.RUN, "w", "r1", 0))).amounts.calls == 2
    assert (await store.spent(Subject(Level.RUN, "w", "r3", 0))).amounts == Amounts()


async def test_a_month_ends_with_its_last_day(database: Database) -> None:
    store = StoredSpending(database.reader)
    rows = [a_row(day=20261031), a_row(day=20261101), a_row(day=20261130), a_row(day=20261201)]
    await database.writer.run(lambda tx: record_spending(tx, rows))
    assert (await store.spent(Subject(Level.AGENT, "w", "a", MONTH))).amounts.calls == 2
    days = await store.shares("w", Group.DAY, MONTH, ("", ""), None, 10)
    assert [one.name for one in days] == ["2026-11-01", "2026-11-30"]
    assert [one.name for one in await store.shares("w", Group.DAY, MONTH, ("", ""), "2026-11-01", 10)] == ["2026-11-30"]


async def test_a_conversation_is_shared_by_agents_and_each_has_its_own_part(database: Database) -> None:
    store = StoredSpending(database.reader)
    rows = [a_row(), a_row("r2", agent_id="b"), a_row("r3", conversation_id="d")]
    await database.writer.run(lambda tx: record_spending(tx, rows))
    assert (await store.spent(Subject(Level.CONVERSATION, "w", "c", MONTH))).amounts.calls == 2
    assert (await store.spent(Subject(Level.CONVERSATION, "w", "c", MONTH, "a"))).amounts.calls == 1
    agents = await store.shares("w", Group.AGENT, MONTH, ("", "c"), None, 10)
    assert [(one.name, one.spent.amounts.calls) for one in agents] == [("a", 1), ("b", 1)]
    chats = await store.shares("w", Group.CONVERSATION, MONTH, ("a", ""), None, 1)
    assert [one.name for one in chats] == ["c"]
    assert [one.name for one in await store.shares("w", Group.CONVERSATION, MONTH, ("a", ""), "c", 9)] == ["d"]


async def test_the_empty_name_is_a_part_and_comes_first(database: Database) -> None:
    store = StoredSpending(database.reader)
    await database.writer.run(lambda tx: record_spending(tx, [a_row(), a_row(model_id="")]))
    assert [one.name for one in await store.shares("w", Group.MODEL, MONTH, ("", ""), None, 1)] == [""]
    assert [one.name for one in await store.shares("w", Group.MODEL, MONTH, ("", ""), "", 1)] == ["m"]
