"""`make soak`: five times what the installation can do, and then a long steady load after which nothing may have grown.

The figures of the overload are printed beside their goal; only answers that are neither an OK nor a clear refusal count
as violations. What grew during the soak is one: memory, descriptors, threads, processes, files.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from statistics import mean

import psutil

from portway.clients.host import Portway
from portway.rpc.errors import LimitExceeded, PortwayError
from tests.faults.host_process import submit
from tests.faults.storm.installation import Installation, installation
from tests.faults.storm.leftovers import processes_of
from tests.faults.storm.load import Caller, Tally
from tests.faults.storm.people import People

TIMES = 5
GOAL = 0.8
CALLERS = 16
MEASURED = 10.0
WAITING_RUNS = 200
PARTS = ("up", "host", "runtime", "box", "web")
ALLOWED = {"memory": (1.15, 24.0), "descriptors": (1.0, 24.0), "threads": (1.0, 8.0), "processes": (1.0, 4.0)}
"""By what factor, and how much more, the mean of the last quarter may lie above that of the second one; MiB, counts."""


def completed(place: Installation) -> int:
    return int(str(place.rows("SELECT COUNT(*) FROM runs WHERE state = 'completed'")[0][0]))


async def capacity(place: Installation) -> float:
    """Runs per second that callers get who wait for their answers."""
    until = time.monotonic() + MEASURED

    async def caller(number: int) -> None:
        async with place.client() as host:
            count = 0
            while time.monotonic() < until:
                accepted = await submit(host, f"say c{number}", f"capacity-{number}-{count}", f"capacity-{number}")
                async for _ in host.runs.watch(accepted.run_id, committed_only=True):
                    pass
                count += 1

    before, began = completed(place), time.monotonic()
    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    return (completed(place) - before) / (time.monotonic() - began)


class Overload:
    """Five times as many messages as can be answered, each once, whatever becomes of it."""

    def __init__(self, place: Installation, rate: float) -> None:
        self._place = place
        self._rate = rate
        self.answers: Counter[str] = Counter()
        self.refused_after: list[float] = []
        self.wrong: list[str] = []

    async def rage(self) -> float:
        """Runs per second that were completed meanwhile."""
        before, began, number = completed(self._place), time.monotonic(), 0
        clients = [self._place.client() for _ in range(4)]
        try:
            async with asyncio.TaskGroup() as group:
                while (passed := time.monotonic() - began) < MEASURED:
                    while number < passed * self._rate:
                        group.create_task(self._send(clients[number % 4], number))
                        number += 1
                    await asyncio.sleep(0.005)
                done = (completed(self._place) - before) / (time.monotonic() - began)
        finally:
            for client in clients:
                await client.__aexit__(None, None, None)
        return done

    async def _send(self, host: Portway, number: int) -> None:
        began = time.monotonic()
        try:
            await submit(host, f"say o{number}", f"overload-{number}", f"overload-{number % 200}")
            self.answers["taken"] += 1
        except LimitExceeded as error:
            self.answers["refused"] += 1
            self.refused_after.append(time.monotonic() - began)
            if error.retry_after is None:
                self.wrong.append("a refusal does not say when to come again")
        except PortwayError as error:
            self.answers[str(error.reason)] += 1
            self.wrong.append(f"neither taken nor refused: {error}")


async def overload(place: Installation) -> list[str]:
    await capacity(place)
    able = await capacity(place)
    over = Overload(place, able * TIMES)
    done = await over.rage()
    late = sorted(over.refused_after) or [0.0]
    print(f"overload: able to do {able:.0f} runs/s, asked for {able * TIMES:.0f}/s: {dict(over.answers)}")
    print(
        f"  {done:.0f} runs/s were completed: {done / able:.0%} (goal {GOAL:.0%})"
        f" {'reached' if done >= GOAL * able else 'NOT reached'}; refused after {late[len(late) // 2] * 1000:.0f} ms"
        f" (median), {late[int(len(late) * 0.99)] * 1000:.0f} ms (p99)"
    )
    return [f"{count} × {what}" for what, count in Counter(over.wrong).most_common(10)]


def look(place: Installation) -> dict[str, float]:
    """What every part holds now, with the processes that it started."""
    found: dict[str, float] = {"files": float(sum(1 for _ in (place.stack.data / "run").rglob("*")))}
    for part in PARTS:
        root = psutil.Process(place.pid(part))
        # The supervisor's children are the other parts.
        all_of_it = [root] if part == "up" else [root, *root.children(recursive=True)]
        for what in ALLOWED:
            found[f"{part} {what}"] = 0.0
        for process in all_of_it:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                found[f"{part} memory"] += process.memory_info().rss / 1024 / 1024
                found[f"{part} descriptors"] += process.num_fds()
                found[f"{part} threads"] += process.num_threads()
                found[f"{part} processes"] += 1
    return found


async def soak(place: Installation, seconds: float) -> list[str]:
    tally, stop = Tally(), asyncio.Event()
    people = People(place, tally, 1)
    working = [asyncio.create_task(Caller(number, place, tally, stop, 1).work()) for number in range(4)]
    others = [asyncio.create_task(one) for one in (people.answer(), people.decide())]
    looks: list[dict[str, float]] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(min(10.0, seconds / 24))
        looks.append(look(place))
    stop.set()
    await asyncio.gather(*working)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    print(f"soak: {len(tally.said)} messages by callers in {seconds / 60:.1f} min, refused {dict(tally.refused)}")
    return tally.wrong + grown(looks)


def grown(looks: list[dict[str, float]]) -> list[str]:
    quarter = len(looks) // 4
    wrong = []
    for name in looks[0]:
        before = mean(one[name] for one in looks[quarter : 2 * quarter])
        after = mean(one[name] for one in looks[-quarter:])
        factor, more = ALLOWED.get(name.rpartition(" ")[2], (1.0, 8.0))
        grew = after > before * factor + more
        print(f"  {name:22} {before:8.1f} → {after:8.1f}{'   GREW' if grew else ''}")
        if grew:
            wrong.append(f"{name} grew from {before:.1f} to {after:.1f}")
    return wrong


async def run(folder: Path, minutes: float) -> list[str]:
    async with installation(folder, "sqlite", HOST__LIMITS__WAITING_RUNS=str(WAITING_RUNS)) as place:
        wrong = await overload(place)
        wrong += await soak(place, minutes * 60)
    return wrong + [f"left over: {one}" for one in processes_of(folder)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    folder = Path(tempfile.mkdtemp(prefix="portway-soak-"))
    wrong = asyncio.run(run(folder, parser.parse_args().minutes))
    print(f"\n{len(wrong)} violations" + "".join(f"\n  {one}" for one in wrong[:100]))
    if not wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
