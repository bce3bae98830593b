"""What goes when it is older than it is kept, and what stays because somebody needs it: on every database."""

import pytest

from portway.server.retention.config import RetentionConfig
from portway.server.retention.reaper import Removed, RetentionReaper
from portway.server.retention.store import StoredMarks
from portway.server.snapshot.freeze import joined
from portway.server.spending.months import day_at
from portway.server.storage_engine.clock import SECOND, now
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import SqlValue, Transaction
from portway.server.transcript.search import Placement, index_text

DAY = 86_400 * SECOND
CONFIG = RetentionConfig(
    conversations="100d", ledger="10d", effects="20d", approvals="20d", runs="30d", deliveries="10d", undelivered="50d",
    events="10d", dedupe="7d", dedupe_sources={"slow": "40d"}, audit="10d", tokens="10d", artifacts="10d",
    interactions="20d", spending="100d",
)  # fmt: skip


def put(tx: Transaction, table: str, **row: SqlValue) -> None:
    tx.insert_many(table, [{"workspace_id": "w", **row}])


def a_run(tx: Transaction, number: int, days: int, state: str = "completed", events: int = 4) -> None:
    """A run that ended so many days ago, with everything that belongs to one."""
    run_id, time = f"run-{number}", now() - days * DAY
    ended = 0 if state in ("queued", "running", "waiting") else time
    put(tx, "runs", run_id=run_id, event_id=f"event-{number}", event_sequence=number, conversation_id="c", state=state,
        create_time=time, end_time=ended, last_sequence=events)  # fmt: skip
    for sequence in range(1, events + 1):
        kind = "run_completed" if sequence == events else "message_delta"
        put(tx, "run_events", run_id=run_id, sequence=sequence, kind=kind, payload=b"p")
    put(tx, "run_snapshots", run_id=run_id, snapshot=b"s", context=b"c", sha256=b"h")
    put(tx, "run_attempts", run_id=run_id, attempt=1, token_id=f"token-{number}", token_hash=b"h", state="ended")
    put(tx, "run_steers", run_id=run_id, position=1, payload=b"p")
    put(tx, "effects", effect_id=f"e-{number}", run_id=run_id, call_id="1", digest=b"d", result=b"r", state="done")
    put(tx, "approvals", approval_id=f"a-{number}", run_id=run_id, details=b"d", state="approved")
    put(tx, "events", event_id=f"event-{number}", sequence=number, source="s", dedupe_key=f"k-{number}",
        body_hash=b"h", payload=b"p", accept_time=time, run_id=run_id)  # fmt: skip


def a_delivery(tx: Transaction, number: int, days: int, state: str, run_id: str = "") -> None:
    time = now() - days * DAY
    put(tx, "deliveries", delivery_id=f"d-{number}", conversation_id="c", sequence=number, target=b"t", payload=b"p",
        state=state, create_time=time, end_time=time, run_id=run_id)  # fmt: skip


async def ids(database: Database, table: str, column: str) -> list[str]:
    rows = await database.reader.run(lambda tx: tx.all(f"SELECT DISTINCT {column} FROM {table} ORDER BY {column}"))
    return [row[0] for row in rows]


@pytest.fixture
async def reaper(database: Database) -> RetentionReaper:
    await database.writer.run(lambda tx: put(tx, "workspaces", name="w"))
    return RetentionReaper(database, CONFIG)


async def test_a_run_loses_its_ledger_first_then_its_effects_then_goes(
    database: Database, reaper: RetentionReaper
) -> None:
    def fill(tx: Transaction) -> None:
        for number, days in enumerate((35, 25, 15, 5), 1):
            a_run(tx, number, days)

    await database.writer.run(fill)
    counted = await reaper.apply(dry=True)
    assert [(one.kind, one.rows) for one in counted] == [
        ("ledger", 3),
        ("effects", 2),
        ("approvals", 2),
        ("runs", 1),
        ("events", 3),
    ]
    assert await ids(database, "runs", "run_id") == ["run-1", "run-2", "run-3", "run-4"]
    await reaper.apply()
    assert await ids(database, "runs", "run_id") == ["run-2", "run-3", "run-4"]
    for table in ("run_snapshots", "run_attempts"):
        assert await ids(database, table, "run_id") == ["run-2", "run-3", "run-4"], table
    for table in ("effects", "approvals"):
        assert await ids(database, table, "run_id") == ["run-3", "run-4"], table
    assert await ids(database, "run_steers", "run_id") == ["run-4"]
    # How an old run ended can still be seen.
    left = await database.reader.run(
        lambda tx: tx.all("SELECT run_id, sequence FROM run_events ORDER BY run_id, sequence")
    )
    assert left == [("run-2", 4), ("run-3", 4), *(("run-4", sequence) for sequence in range(1, 5))]
    assert await ids(database, "events", "event_id") == ["event-4"]
    assert await reaper.apply() == []
    totals = {kind: removed for kind, removed, _ in await StoredMarks(database.reader).totals()}
    assert totals["ledger"] == 3 * 3 + 3
    assert totals["events"] == 3


async def test_what_is_open_stays_and_is_looked_at_again_when_it_has_ended(
    database: Database, reaper: RetentionReaper
) -> None:
    def fill(tx: Transaction) -> None:
        for number, state in enumerate(("completed", "waiting", "completed", "queued", "failed"), 1):
            a_run(tx, number, 400 - number, state)
        a_delivery(tx, 1, 300, "pending", "run-3")

    await database.writer.run(fill)
    await reaper.apply()
    # One waits for an answer, one for its turn, and the reply of one was not delivered yet.
    assert await ids(database, "runs", "run_id") == ["run-2", "run-3", "run-4"]
    assert await ids(database, "events", "event_id") == ["event-2", "event-4"]
    assert await ids(database, "deliveries", "delivery_id") == ["d-1"]

    def ends(tx: Transaction) -> None:
        tx.execute("UPDATE runs SET state = 'completed', end_time = 5 WHERE run_id = 'run-2'")
        tx.execute("UPDATE deliveries SET state = 'acknowledged'")

    await database.writer.run(ends)
    await reaper.apply()
    assert await ids(database, "deliveries", "delivery_id") == []
    await reaper.apply()
    assert await ids(database, "runs", "run_id") == ["run-4"]
    assert await ids(database, "events", "event_id") == ["event-4"]


async def test_a_long_run_goes_piece_by_piece(database: Database, reaper: RetentionReaper) -> None:
    def fill(tx: Transaction) -> None:
        a_run(tx, 1, 300, events=1000)
        a_run(tx, 2, 300)

    await database.writer.run(fill)
    removed = await reaper.apply(["ledger"])
    assert removed == [Removed("w", "ledger", 999 + 3 + 2)]
    assert reaper.progress.units > 5


async def test_keys_of_a_source_stay_as_long_as_it_may_send_again(database: Database, reaper: RetentionReaper) -> None:
    def fill(tx: Transaction) -> None:
        for number, (source, days) in enumerate((("fast", 30), ("slow", 30), ("slow", 50), ("fast", 8)), 1):
            put(tx, "events", event_id=f"event-{number}", sequence=number, source=source, dedupe_key=f"k-{number}",
                body_hash=b"h", payload=b"p", accept_time=now() - days * DAY)  # fmt: skip

    await database.writer.run(fill)
    await reaper.apply()
    assert await ids(database, "events", "event_id") == ["event-2", "event-4"]


async def test_deliveries_audit_tokens_and_artifacts(database: Database, reaper: RetentionReaper) -> None:
    def fill(tx: Transaction) -> None:
        old, states = now() - 20 * DAY, ("acknowledged", "expired", "unknown", "failed", "pending", "discarded")
        for number, state in enumerate(states, 1):
            a_delivery(tx, number, 20, state)
        a_delivery(tx, 7, 60, "dead_letter")
        a_delivery(tx, 8, 5, "acknowledged")
        for sequence in range(1, 500):
            put(tx, "audit", sequence=sequence, time=old if sequence < 450 else now())
        for number, (expire, revoke) in enumerate(((0, 0), (old, 0), (0, old), (now() + DAY, 0)), 1):
            put(tx, "tokens", token_id=f"t-{number}", secret_hash=b"h", previous_hash=b"", expire_time=expire,
                revoke_time=revoke)  # fmt: skip
        put(tx, "artifacts", artifact_id="a-1", create_time=old)
        put(tx, "artifacts", artifact_id="a-2", create_time=now())

    await database.writer.run(fill)
    await reaper.apply()
    assert await ids(database, "deliveries", "delivery_id") == ["d-3", "d-4", "d-5", "d-8"]
    assert await database.reader.run(lambda tx: tx.one("SELECT MIN(sequence), COUNT(*) FROM audit")) == (450, 50)
    assert await ids(database, "tokens", "token_id") == ["t-1", "t-4"]
    expired = await database.reader.run(lambda tx: tx.all("SELECT artifact_id FROM artifacts WHERE expire_time > 0"))
    assert expired == [("a-1",)]


async def test_answered_questions_and_old_spending(database: Database, reaper: RetentionReaper) -> None:
    def fill(tx: Transaction) -> None:
        for number, (days, state) in enumerate(((30, "answered"), (30, "open"), (5, "answered")), 1):
            time = now() - days * DAY
            put(tx, "interactions", run_id=f"r-{number}", interaction_id="i", request=b"q", answer=b"", state=state,
                create_time=time, end_time=time if state != "open" else 0)  # fmt: skip
        for number in range(450):
            put(tx, "spending", run_id=f"r-{number}", attempt=1, day=day_at(now() - 200 * DAY), model_id="m")
        put(tx, "spending", run_id="now", attempt=1, day=day_at(now()), model_id="m")

    await database.writer.run(fill)
    counted = {one.kind: one.rows for one in await reaper.apply(["interactions", "spending"], dry=True)}
    assert counted == {"interactions": 1, "spending": 450}
    await reaper.apply()
    assert await ids(database, "interactions", "run_id") == ["r-2", "r-3"]
    assert await ids(database, "spending", "run_id") == ["now"]


async def test_conversations_that_nobody_uses_go_whole_if_they_are_not_kept_for_ever(
    database: Database, reaper: RetentionReaper
) -> None:
    def fill(tx: Transaction) -> None:
        for number, days in enumerate((200, 200, 5), 1):
            conversation = f"c-{number}"
            put(tx, "conversations", conversation_id=conversation, last_active_time=now() - days * DAY)
            put(tx, "chats", chat_key=f"chat-{number}", conversation_id=conversation)
            put(tx, "skill_activations", conversation_id=conversation, name="s")
            put(tx, "state", agent_id="a", scope="conversation", scope_key=joined(conversation, ""), key="k")
            for sequence in range(1, 301):
                item = number * 1000 + sequence
                put(tx, "transcript", item_number=item, conversation_id=conversation, sequence=sequence,
                    item_id=f"i-{item}", text="bicycle", content=b"")  # fmt: skip
                index_text(tx, item, Placement("w", conversation, "user", "text"), "bicycle")
        put(tx, "agents", agent_id="a")
        put(tx, "state", agent_id="a", scope="runner", scope_key="", key="k")
        put(tx, "runs", run_id="open", conversation_id="c-2", state="running", event_sequence=1)

    await database.writer.run(fill)
    await reaper.apply()
    assert await ids(database, "state", "scope_key") == ["", joined("c-2", ""), joined("c-3", "")]
    for table in ("conversations", "chats", "skill_activations", "transcript"):
        assert await ids(database, table, "conversation_id") == ["c-2", "c-3"], table
    index = await database.reader.run(lambda tx: tx.one("SELECT COUNT(*) FROM transcript_search"))
    assert index == (600,)
    for_ever = RetentionReaper(database, RetentionConfig())
    await database.writer.run(lambda tx: tx.execute("DELETE FROM runs"))
    await for_ever.apply()
    assert await ids(database, "conversations", "conversation_id") == ["c-2", "c-3"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"audit": "soon"},
        {"audit": "0d"},
        {"dedupe": "3d"},
        {"dedupe_sources": {"telegram": "1h"}},
        {"runs": "1d"},
        {"spending": "30d"},
        {"every_seconds": 0},
    ],
)
def test_times_that_would_do_harm_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        RetentionConfig(**wrong)  # type: ignore[arg-type]


def test_short_keys_can_be_forced() -> None:
    assert RetentionConfig(dedupe="1h", force_short_dedupe=True).dedupe_seconds() == (3600, {})
