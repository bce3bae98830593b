"""How the stores behave when they are full: history pages, searches, accepting, recovery.

    .venv/bin/python -m bench.stores [--quick | --full] [--items N] [--folder DIR]

It fills a database (300,000 items; with --full 1,000,000) and measures at a tenth of them, which is the floor, and at
all. Goals: a page of 50 within 5 ms (p99), a search within 50 ms (p99), 100,000 open runs read within 10 s, and nothing
slower than 1.2 times at ten times the size.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from bench.kit.rows import Row, add_options, at_most, options_of, tell, times_floor
from portway.rpc.ids import new_id
from portway.server.conversations.store import begin_conversation
from portway.server.conversations.types import NewConversation
from portway.server.events.store import append_event, find_duplicate
from portway.server.events.types import EventOutcome, NewEvent
from portway.server.runs.attempts import add_run
from portway.server.runs.store import StoredRuns
from portway.server.runs.types import NewRun, OpenRun
from portway.server.storage_engine.database import Database, DatabaseOptions, open_database
from portway.server.storage_engine.transaction import Transaction
from portway.server.transcript.store import StoredTranscript, append_items
from portway.server.transcript.types import NewItem, PageQuery, Role, SearchQuery

_WORKSPACE = "default"
_CONVERSATIONS = 200
_WORDS = [f"word{number}" for number in range(5_000)]
_CHARACTERS = [chr(0x4E00 + number) for number in range(2_000)]


def _text(source: random.Random) -> str:
    """A dozen words, common ones often; half of the texts Chinese."""
    if source.random() < 0.5:
        return "".join(_CHARACTERS[int(source.random() ** 2 * len(_CHARACTERS))] for _ in range(24))
    return " ".join(_WORDS[int(source.random() ** 3 * len(_WORDS))] for _ in range(12))


def _begin(number: int, tx: Transaction) -> None:
    conversation_id = f"cnv_{number}"
    begin_conversation(
        tx, NewConversation(workspace_id=_WORKSPACE, conversation_id=conversation_id, chat_key=conversation_id)
    )


def _say(conversation: int, texts: list[str], tx: Transaction) -> None:
    items = [
        NewItem(item_id=new_id("msg"), role=Role.USER, kind="message", text=text, content=text.encode())
        for text in texts
    ]
    append_items(tx, _WORKSPACE, f"cnv_{conversation}", items)


def _accept(tx: Transaction) -> None:
    event_id = new_id("evt")
    event = NewEvent(
        workspace_id=_WORKSPACE,
        event_id=event_id,
        source="bench",
        dedupe_key=event_id,
        body_hash=b"h" * 32,
        type="message.received",
        event_time=0,
        payload=b"p" * 200,
        outcome=EventOutcome.RUN,
    )
    if find_duplicate(tx, event) is not None:
        raise AssertionError("the key is new")
    accepted = append_event(tx, event)
    run = NewRun(
        workspace_id=_WORKSPACE,
        run_id=new_id("run"),
        event_id=event_id,
        event_sequence=accepted.sequence,
        conversation_id=f"cnv_{accepted.sequence % _CONVERSATIONS}",
        agent_id="assistant",
        agent_revision=1,
        binding_id="default",
        runner_id="plugin:portway/local-agent/default",
    )
    add_run(tx, run)


async def fill(database: Database, items: int, source: random.Random) -> None:
    """Add items to every conversation in turn, 50 at a time, many units in flight."""
    units = [partial(_say, n % _CONVERSATIONS, [_text(source) for _ in range(50)]) for n in range(items // 50)]
    for at in range(0, len(units), 200):
        await asyncio.gather(*(database.writer.run(unit) for unit in units[at : at + 200]))


async def timed(question: Callable[[], Awaitable[object]], times: int) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        await question()
        taken.append((time.perf_counter() - begun) * 1000)
    cuts = statistics.quantiles(taken, n=100)
    return cuts[49], cuts[98]


def questions(database: Database, source: random.Random) -> dict[str, Callable[[], Awaitable[object]]]:
    """What is measured, by name."""
    transcript = StoredTranscript(database.reader)

    def page() -> Awaitable[object]:
        conversation_id = f"cnv_{source.randrange(_CONVERSATIONS)}"
        cursor = source.randrange(50, 500)
        return transcript.page(_WORKSPACE, PageQuery(conversation_id=conversation_id, cursor=cursor, limit=50))

    def search(text: Callable[[], str], conversation: bool) -> Callable[[], Awaitable[object]]:
        return lambda: transcript.search(
            _WORKSPACE,
            SearchQuery(
                text=text(),
                limit=10,
                conversation_id=f"cnv_{source.randrange(_CONVERSATIONS)}" if conversation else "",
            ),
        )

    def two_characters() -> str:
        return source.choice(_CHARACTERS) + source.choice(_CHARACTERS)

    def by_role() -> Awaitable[object]:
        query = SearchQuery(text="word0", limit=10, roles=frozenset({"assistant"}))
        return transcript.search(_WORKSPACE, query)

    return {
        "history page of 50": page,
        "search, a common word": search(lambda: "word0", False),
        "search, a rare word": search(lambda: source.choice(_WORDS[-500:]), False),
        "search, two words": search(lambda: f"word1 {source.choice(_WORDS)}", False),
        "search, two Chinese characters": search(two_characters, False),
        "search, one Chinese character": search(lambda: source.choice(_CHARACTERS), False),
        "search that a role filters out": by_role,
        "search in one conversation": search(lambda: source.choice(_WORDS[:100]), True),
        "accept an event": lambda: database.writer.run(_accept),
    }


async def recovery(database: Database, runs: int) -> float:
    """Seconds to read all open runs."""
    for _ in range(runs // 1000):
        await asyncio.gather(*(database.writer.run(_accept) for _ in range(1000)))
    stored = StoredRuns(database.reader)
    begun = time.perf_counter()
    last: OpenRun | None = None
    found = 0
    while batch := await stored.open_runs(last, 1000):
        found += len(batch)
        last = batch[-1]
    if found < runs:
        raise AssertionError(f"{found} of {runs} open runs")
    return time.perf_counter() - begun


async def measure(folder: Path, items: int) -> list[Row]:
    """What the full database answers, beside what it answered when it held a tenth."""
    source = random.Random(7)
    async with open_database(DatabaseOptions(url=f"sqlite:///{folder}/portway.db")) as database:
        for number in range(_CONVERSATIONS):
            await database.writer.run(partial(_begin, number))
        results: dict[str, list[float]] = {}
        for share in (0.1, 0.9):
            begun = time.perf_counter()
            await fill(database, int(items * share), source)
            print(f"filled {int(items * share):,} items in {time.perf_counter() - begun:.0f} s", flush=True)
            for name, question in questions(database, source).items():
                results.setdefault(name, []).extend(await timed(question, 300))
        rows = []
        for name, (median, tail, full_median, full_tail) in results.items():
            what, limit = f"{name}, {items:,} items", 50 if name.startswith("search") else 5
            rows.append(Row(f"{what}, p99", full_tail, "ms", tail, at_most(full_tail, limit, "ms")))
            rows.append(Row(f"{what}, p50", full_median, "ms", median, times_floor(full_median, median, 1.2)))
        size = (folder / "portway.db").stat().st_size
        rows.append(Row("database", size / 1024 / 1024, "MiB", note=f"{size / items:,.0f} bytes an item"))
        seconds = await recovery(database, 100_000)
        rows.append(Row("reading 100,000 open runs", seconds, "s", goal=at_most(seconds, 10, "s")))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; a temporary folder if not given")
    add_options(parser)
    given = parser.parse_args()
    options = options_of(given)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        items = given.items or options.pick(50_000, 300_000, 1_000_000)
        rows = asyncio.run(measure(Path(folder), items))
    tell(rows, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
