"""Events submitted and acknowledged: each answer means that the event is on disk.

    [BENCH_DATABASE=postgresql://…] .venv/bin/python -m bench.submit [--quick | --full]

64 callers in two processes call SubmitEvent, with the server on one core and on two. Two kinds: an event that is only
recorded, and a message, which also makes a transcript item and a run. The runs wait behind one that executes in each
conversation, so that nothing but accepting is measured. The floor is a bare unary echo of messages of the same sizes,
with the same callers on the same cores; rounds alternate.
"""

import asyncio
import multiprocessing
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from bench.kit import database, floor, machine, runs
from bench.kit.machine import Cores
from bench.kit.numbers import p50, p99
from bench.kit.rows import Goal, Options, Row, of_floor, read_options, tell
from bench.kit.stack import Stack, installation
from portway.clients.host import Portway
from portway.rpc.channel import open_channel
from portway.v1 import content_pb2, event_pb2, event_pb2_grpc

CALLERS, PROCESSES, ROUNDS = 64, 2, 3
BEFORE = 20
CONVERSATIONS = 64
TEXT = "What do you say to a message of about sixty characters or so?"
RECORDED, MESSAGE, BARE = "recorded", "message", "bare"
ANSWER_BYTES = 180

Send = Callable[[int], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Target:
    """What callers call."""

    kind: str
    address: str
    token: str


def request(kind: str, caller: int) -> event_pb2.SubmitEventRequest:
    """A new event, with a key of its own."""
    address = event_pb2.EventAddress(surface="api", launcher_type="api")
    if kind == RECORDED:
        event = event_pb2.Event(type="bench.happened", address=address)
        event.data["text"] = TEXT
        return event_pb2.SubmitEventRequest(event=event, idempotency_key=uuid.uuid4().hex)
    address.conversation_id = conversation(caller)
    part = content_pb2.ContentPart(text=content_pb2.TextPart(text=TEXT))
    event = event_pb2.Event(type="message.received", address=address, parts=[part])
    return event_pb2.SubmitEventRequest(event=event, idempotency_key=uuid.uuid4().hex, agent_id=runs.AGENT)


def conversation(caller: int) -> str:
    return f"bench-submit-{caller % CONVERSATIONS}"


async def call_all(target: Target, first: int, callers: int, seconds: float) -> tuple[float, list[float]]:
    """Calls a second and the seconds of each, of some of the callers."""
    if target.kind == BARE:
        async with floor.dial(target.address) as channel:
            echo = floor.unary_of(channel)
            wanted = floor.request_of(request(MESSAGE, 0).ByteSize(), ANSWER_BYTES)
            return await close_loop(lambda caller: echo(wanted), first, callers, seconds)
    async with open_channel(target.address, token=target.token) as channel:
        stub = event_pb2_grpc.EventServiceStub(channel)
        return await close_loop(lambda caller: stub.SubmitEvent(request(target.kind, caller)), first, callers, seconds)


async def close_loop(send: Send, first: int, callers: int, seconds: float) -> tuple[float, list[float]]:
    """Each caller calls again when it was answered."""
    for _ in range(BEFORE):
        await send(first)
    taken: list[float] = []
    begun = time.perf_counter()

    async def caller(number: int) -> None:
        while (sent := time.perf_counter()) < begun + seconds:
            await send(number)
            taken.append(time.perf_counter() - sent)

    await asyncio.gather(*(caller(first + number) for number in range(callers)))
    return len(taken) / (time.perf_counter() - begun), taken


def process(target: Target, first: int, callers: int, seconds: float, cores: frozenset[int], out: Connection) -> None:
    machine.pin_self(cores)
    out.send(uvloop.run(call_all(target, first, callers, seconds)))


def load(target: Target, seconds: float, cores: frozenset[int]) -> tuple[float, list[float]]:
    """All callers, in processes of their own."""
    context, share, answers = multiprocessing.get_context("spawn"), CALLERS // PROCESSES, []
    for number in range(PROCESSES):
        received, out = context.Pipe(duplex=False)
        arguments = (target, number * share, share, seconds, cores, out)
        context.Process(target=process, args=arguments).start()
        out.close()
        answers.append(received)
    results = [received.recv() for received in answers]
    return sum(rate for rate, _ in results), [one for _, taken in results for one in taken]


async def occupy(stack: Stack, folder: Path) -> None:
    """One run executes in each conversation and never ends: what is submitted after it waits."""
    async with Portway(stack.host, token=stack.token) as host:
        await runs.create_agent(host)
        for number in range(CONVERSATIONS):
            path = folder / f"{number}.token"
            await host.send(f"hold {path}", agent_id=runs.AGENT, conversation_id=conversation(number))


def measure(stack: Stack, bare: str, cores: Cores, options: Options) -> list[Row]:
    seconds, where = options.pick(1, 3), f"server on {len(cores.server)} core{'s' * (len(cores.server) > 1)}"
    stack.pin(cores.server)
    targets = [Target(BARE, bare, ""), *(Target(kind, stack.host, stack.token) for kind in (RECORDED, MESSAGE))]
    rates: dict[str, list[float]] = {target.kind: [] for target in targets}
    taken: dict[str, list[float]] = {target.kind: [] for target in targets}
    for _ in range(ROUNDS):
        for target in targets:
            rate, seconds_of_each = load(target, seconds, cores.client)
            rates[target.kind].append(rate)
            taken[target.kind] += seconds_of_each
    share = 0.35 if len(cores.server) == 1 else 0.5
    rows, floor_rate = [], statistics.median(rates[BARE])
    for kind, name in ((RECORDED, "an event recorded"), (MESSAGE, "a message, its run queued")):
        rate, tail, floor_tail = statistics.median(rates[kind]), p99(taken[kind]) * 1000, p99(taken[BARE]) * 1000
        what = f"submit on disk: {name}, {where}"
        rows.append(Row(what, rate, "/s", floor_rate, of_floor(rate, floor_rate, share)))
        rows.append(Row(f"{what}, p50", p50(taken[kind]) * 1000, "ms", p50(taken[BARE]) * 1000))
        goal = Goal("≤ 3 × floor", tail <= 3 * floor_tail)
        rows.append(Row(f"{what}, p99", tail, "ms", floor_tail, goal))
    return rows


def main() -> int:
    options = read_options(__doc__)
    rows: list[Row] = []
    for count in (1, 2):
        cores = machine.servers_on(count)
        if cores is None:
            print(f"not measured with the server on {count} cores: there are too few cores for it and its callers")
            continue
        print(
            f"{cores}; {database.kind()}; {CALLERS} callers in {PROCESSES} processes, {ROUNDS} rounds, medians",
            flush=True,
        )
        with (
            tempfile.TemporaryDirectory(prefix="portway-bench-") as folder,
            floor.bare_server(cores.server) as bare,
            installation(runs.CONFIG) as stack,
        ):
            uvloop.run(occupy(stack, Path(folder)))
            rows += measure(stack, bare, cores, options)
    tell(rows, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
