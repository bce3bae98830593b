"""A message on its whole way: adapter stream, host, runtime, plugin, demo model with 20 chunks, and back as a delivery.

    [BENCH_DATABASE=postgresql://…] .venv/bin/python -m bench.message [--quick | --full]

Everything runs as `portway up` starts it, and what is acknowledged is on disk: in SQLite (`synchronous=FULL`), or on
the PostgreSQL server that the variable names, in a schema that is made and dropped. The bench is an adapter. It takes
the time from an event sent to its answer received: one caller for the median, 32 for the throughput. Each
conversation has ten turns, so that most answers read some history. The floor is a bare echo of messages of the same
sizes on one stream; rounds of both alternate.
"""

import asyncio
import statistics
import sys
import time
from dataclasses import dataclass, field

import grpc
import uvloop

from bench.kit import database, floor, machine
from bench.kit.adapter import BenchAdapter, connected
from bench.kit.numbers import p50, p99
from bench.kit.rows import Options, Row, at_least, at_most, read_options, tell
from bench.kit.stack import Stack, installation
from portway.clients.host import Portway

CONFIG = "models:\n  default: demo-20\n"
ANSWER_WORDS = 20
TEXT = "What do you say to a message of about sixty characters or so?"
TURNS = 10
CALLERS = 32
ROUNDS = 3


@dataclass(slots=True)
class Taken:
    """What the rounds gave. Times are in seconds."""

    alone: list[float] = field(default_factory=list)
    alone_floor: list[float] = field(default_factory=list)
    crowd: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    floor_rates: list[float] = field(default_factory=list)
    statements: list[float] = field(default_factory=list)
    commits: list[float] = field(default_factory=list)
    alone_statements: float = 0.0
    alone_commits: float = 0.0


class Caller:
    """Asks one thing after the other; a new conversation after so many turns."""

    def __init__(self, adapter: BenchAdapter, name: str) -> None:
        self._adapter = adapter
        self._name = name
        self._asked = 0

    async def ask(self) -> float:
        conversation_id = f"bench-{self._name}-{self._asked // TURNS}"
        self._asked += 1
        seconds, answer = await self._adapter.ask(conversation_id, TEXT)
        if len(answer.split()) != ANSWER_WORDS:
            raise AssertionError(f"the answer is not that of demo-20: {answer!r}")
        return seconds

    async def ask_until(self, end: float, taken: list[float]) -> None:
        while time.perf_counter() < end:
            taken.append(await self.ask())


class Meter:
    """Counts what the database did."""

    def __init__(self, host: Portway) -> None:
        self._host = host

    async def read(self) -> tuple[int, int]:
        """Statements and commits so far. Asking costs some, so it is asked twice and the difference taken off."""
        before = await self._host.status()
        status = await self._host.status()
        own = status.sql_statement_count - before.sql_statement_count
        return status.sql_statement_count + own, status.sql_commit_count


async def measure(stack: Stack, bare: str, options: Options) -> Taken:
    """All rounds."""
    taken = Taken()
    async with (
        Portway(stack.host, token=stack.token) as host,
        connected(stack) as adapter,
        floor.dial(bare) as echo,
    ):
        meter = Meter(host)
        crowd = [Caller(adapter, f"crowd{number}") for number in range(CALLERS)]
        alone = Caller(adapter, "alone")
        await warm_up(alone, crowd)
        request = floor.request_of(adapter.event_bytes, adapter.delivery_bytes)
        for _ in range(ROUNDS):
            await one_caller(alone, echo, request, meter, taken, options)
            await all_callers(crowd, echo, request, meter, taken, options)
    return taken


async def warm_up(alone: Caller, crowd: list[Caller]) -> None:
    """The plugin is started by its first run; code and caches get warm."""
    for _ in range(TURNS):
        await alone.ask()
    for _ in range(3):
        await asyncio.gather(*(caller.ask() for caller in crowd))


async def one_caller(
    caller: Caller, echo: grpc.aio.Channel, request: bytes, meter: Meter, taken: Taken, options: Options
) -> None:
    count = options.pick(50, 150)
    taken.alone_floor += await floor.round_trips(echo, request, 5 * count)
    statements, commits = await meter.read()
    taken.alone += [await caller.ask() for _ in range(count)]
    statements_after, commits_after = await meter.read()
    taken.alone_statements = (statements_after - statements) / count
    taken.alone_commits = (commits_after - commits) / count


async def all_callers(
    callers: list[Caller], echo: grpc.aio.Channel, request: bytes, meter: Meter, taken: Taken, options: Options
) -> None:
    seconds = options.pick(2, 6)
    taken.floor_rates.append(await floor.echo_rate(echo, request, CALLERS, seconds / 2))
    statements, commits = await meter.read()
    begun, round_taken = time.perf_counter(), list[float]()
    await asyncio.gather(*(caller.ask_until(begun + seconds, round_taken) for caller in callers))
    elapsed = time.perf_counter() - begun
    statements_after, commits_after = await meter.read()
    taken.rates.append(len(round_taken) / elapsed)
    taken.crowd += round_taken
    taken.statements.append((statements_after - statements) / len(round_taken))
    taken.commits.append((commits_after - commits) / len(round_taken))


def rows(taken: Taken) -> list[Row]:
    alone, rate = p50(taken.alone) * 1000, statistics.median(taken.rates)
    echo_rate = statistics.median(taken.floor_rates)
    return [
        Row(
            "message → reply, one caller, p50",
            alone,
            "ms",
            p50(taken.alone_floor) * 1000,
            at_most(alone, 8, "ms"),
        ),
        Row("message → reply, one caller, p99", p99(taken.alone) * 1000, "ms", p99(taken.alone_floor) * 1000),
        Row("message → reply, 32 callers", rate, "/s", echo_rate, at_least(rate, 400, "/s")),
        Row("message → reply, 32 callers, p50", p50(taken.crowd) * 1000, "ms"),
        Row("message → reply, 32 callers, p99", p99(taken.crowd) * 1000, "ms"),
        Row(
            "SQL statements a message, one caller",
            taken.alone_statements,
            "",
            goal=at_most(taken.alone_statements, 30, ""),
        ),
        Row("commits a message, one caller", taken.alone_commits, "", goal=at_most(taken.alone_commits, 4, "")),
        Row("SQL statements a message, 32 callers", statistics.median(taken.statements), ""),
        Row("commits a message, 32 callers", statistics.median(taken.commits), ""),
    ]


def main() -> int:
    options = read_options(__doc__)
    cores = machine.all_but_one()
    print(f"{cores}; {database.kind()}; demo-20, {TURNS} turns a conversation, {ROUNDS} rounds, medians", flush=True)
    with floor.bare_server(cores.server) as bare, installation(CONFIG) as stack:
        stack.pin(cores.server)
        machine.pin_self(cores.client)
        taken = uvloop.run(measure(stack, bare, options))
    tell(rows(taken), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
