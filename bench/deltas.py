"""Text deltas from a plugin to a watcher: one run, nothing lost.

    .venv/bin/python -m bench.deltas [--quick | --full]

A plugin yields numbered chunks of eight characters through the SDK as fast as the runtime and the host take them; a
client of WatchRun joins what it gets, and every chunk must be there once and in order. Chunks travel packed and are
joined before they are committed, so there are fewer events than chunks. The floor is a bare server that streams one
message a chunk.
"""

import statistics
import sys
import time
from dataclasses import dataclass, field

import uvloop

from bench.kit import floor, machine, runs
from bench.kit.rows import Options, Row, at_least, read_options, tell
from bench.kit.stack import Stack, installation
from portway.clients.host import Portway
from portway.clients.run_view import RunEnded, RunView, TextAdded

ROUNDS = 3
CHUNK = 8
# A streamed message of the host with one chunk: what surrounds the eight characters.
FLOOR_BYTES = 120


@dataclass(slots=True)
class Taken:
    rates: list[float] = field(default_factory=list)
    floor_rates: list[float] = field(default_factory=list)
    committed: int = 0


async def measure(stack: Stack, bare: str, options: Options) -> Taken:
    taken = Taken()
    count = options.pick(100_000, 500_000)
    async with Portway(stack.host, token=stack.token) as host, floor.dial(bare) as echo:
        await runs.create_agent(host)
        await flood(host, 1_000)
        for _ in range(ROUNDS):
            taken.floor_rates.append(await floor.flood_rate(echo, FLOOR_BYTES, count // 5))
            rate, taken.committed = await flood(host, count)
            taken.rates.append(rate)
    return taken


async def flood(host: Portway, count: int) -> tuple[float, int]:
    """Chunks a second from the message accepted to the last chunk seen, and the events committed for them."""
    begun = time.perf_counter()
    accepted = await host.send(f"deltas {count}", agent_id=runs.AGENT)
    view, pieces, ended, last = RunView(), list[str](), False, begun
    async for event in host.runs.watch(accepted.run_id):
        for change in view.apply(event):
            if isinstance(change, TextAdded):
                pieces.append(change.text)
                last = time.perf_counter()
            elif isinstance(change, RunEnded):
                if change.error is not None:
                    raise AssertionError(f"the run failed: {change.error.message}")
                ended = True
    text = "".join(pieces)
    if not ended or text != "".join(f"{number:07} " for number in range(count)):
        raise AssertionError(f"{len(text) // CHUNK} of {count} chunks came, or not in order")
    return count / (last - begun), view.last_sequence


def rows(taken: Taken, options: Options) -> list[Row]:
    rate = statistics.median(taken.rates)
    count = options.pick(100_000, 500_000)
    return [
        Row(
            f"text deltas, plugin → watcher, {count:,} in one run",
            rate,
            "/s",
            statistics.median(taken.floor_rates),
            at_least(rate, 150_000, "/s"),
            "none lost, none twice, in order",
        ),
        Row("events committed for them", taken.committed, ""),
    ]


def main() -> int:
    options = read_options(__doc__)
    cores = machine.all_but_one()
    print(f"{cores}; {ROUNDS} rounds, medians", flush=True)
    with floor.bare_server(cores.server) as bare, installation(runs.CONFIG) as stack:
        stack.pin(cores.server)
        machine.pin_self(cores.client)
        taken = uvloop.run(measure(stack, bare, options))
    tell(rows(taken, options), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
