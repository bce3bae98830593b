"""`make faults`: a storm of some minutes over a whole installation, and then every invariant is looked at from outside.

Ends with 1 where any is broken. The seed that is printed draws the same faults in the same order again.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psycopg

from portway.v1 import run_pb2
from tests.e2e.stack import until
from tests.faults.storm import checks
from tests.faults.storm.installation import Installation, installation
from tests.faults.storm.leftovers import processes_of
from tests.faults.storm.load import CALLS, TROUBLE, Caller, Tally
from tests.faults.storm.people import People
from tests.faults.storm.platform import DEEDS as DEED_OF
from tests.faults.storm.platform import lines
from tests.faults.storm.weather import GOAL, Log, Weather

CALM_WITHIN = 240
"""Seconds that everything may take to end when the storm is over: what was put off comes first."""


async def storm(folder: Path, seed: int, seconds: float, database: str) -> list[str]:
    tally, log = Tally(), Log()
    async with installation(folder, database) as place:
        snapshots: dict[str, str] = {}
        stop = asyncio.Event()
        callers = [Caller(number, place, tally, stop, seed) for number in range(CALLS)]
        people = People(place, tally, seed)
        others = [asyncio.create_task(one) for one in (people.answer(), people.decide(), people.rotate())]
        others.append(asyncio.create_task(_keep_snapshots(place, snapshots)))
        working = [asyncio.create_task(caller.work()) for caller in callers]
        try:
            await Weather(place, log, seed).rage(seconds)
            stop.set()
            (folder / "stop").touch()
            for task in others:
                assert not task.done(), task
            wrong = await _calm(place, working)
            wrong += log.wrong + tally.wrong + await _check(place, tally, snapshots)
            runs = await _runs(place)
            tell(place, tally, log, runs)
        finally:
            for task in [*working, *others]:
                task.cancel()
            await asyncio.gather(*working, *others, return_exceptions=True)
    with suppress(AssertionError):
        await until(lambda: not processes_of(folder), "the processes to be gone", 20)
    wrong += [f"I14: left over: {one}" for one in processes_of(folder)]
    return wrong


async def _keep_snapshots(place: Installation, kept: dict[str, str]) -> None:
    """The first that is seen of each run's snapshot."""
    while True:
        await asyncio.sleep(5)
        # The database is killed as well.
        with suppress(sqlite3.Error, psycopg.Error):
            kept |= {
                run: digest
                for run, digest in (await asyncio.to_thread(checks.digests, place)).items()
                if run not in kept
            }


async def _calm(place: Installation, working: list[asyncio.Task[None]]) -> list[str]:
    """Until nobody works any more: callers have their ends, nothing is queued, under way or to be delivered."""
    deadline = time.monotonic() + CALM_WITHIN
    done, late = await asyncio.wait(working, timeout=CALM_WITHIN)
    for task in done:
        task.result()
    said = f"{len(late)} callers wait for the end of their runs"
    while time.monotonic() < deadline and not late:
        try:
            async with place.client() as host:
                status = await host.status()
            taken = {line[0] for line in lines(place.folder / "taken")}
            people = [
                f"chat{path.name[9:]}-{line[0]}" for path in place.folder.glob("sent-chat*") for line in lines(path)
            ]
            open_questions = place.rows("SELECT run_id FROM interactions WHERE state = 'open'")
            waiting = [key for key in people if key not in taken] + [str(row[0]) for row in open_questions]
            if not (status.queued_run_count or status.active_run_count or _undelivered(place) or waiting):
                return []
            said = (
                f"{status.queued_run_count} queued, {status.active_run_count} active, {waiting} not taken or answered"
            )
        except TROUBLE as error:
            said = str(error)
        await asyncio.sleep(0.5)
    return [f"I5: {CALM_WITHIN} s after the storm it is not calm: {said}"]


def _undelivered(place: Installation) -> int:
    rows = place.rows("SELECT COUNT(*) FROM deliveries WHERE surface = 'storm' AND state IN ('pending', 'sent')")
    return int(str(rows[0][0]))


async def _runs(place: Installation) -> checks.Runs:
    found: checks.Runs = {}
    async with place.client() as host:
        for (run_id,) in place.rows("SELECT run_id FROM runs"):
            found[str(run_id)] = await host.runs.get(str(run_id))
    return found


async def _check(place: Installation, tally: Tally, snapshots: dict[str, str]) -> list[str]:
    runs = await _runs(place)
    words = {said.key: said.run_id for said in tally.said.values()}
    deeds = {said.key: said.deed for said in tally.said.values()}
    for key, _, run_id, _ in lines(place.folder / "taken"):
        words[key], deeds[key] = run_id, DEED_OF[int(key.rpartition("-")[2]) % len(DEED_OF)]
    done = {word: deeds[word] for word, run_id in words.items() if runs[run_id].state == checks.COMPLETED}
    wrong = [
        *checks.log_of_events(place, tally),
        *checks.ends_of_runs(place, runs),
        *checks.deliveries(place),
        *checks.replies(place, runs),
        *checks.snapshots(place, snapshots),
        *checks.state(place, done),
        *checks.effects(place, done, await checks.commands(place)),
        *checks.spending(place, done, runs, words),
        *checks.people(place, tally),
        *checks.successes(runs.values()),
    ]
    async with place.client() as host:
        wrong += await checks.ledgers(host, runs, tally)
        wrong += await checks.files(host, tally)
    return wrong


def tell(place: Installation, tally: Tally, log: Log, runs: checks.Runs) -> None:
    """What happened, and what came of it."""
    print("\nwhat was done to it")
    for name, count in log.done.most_common():
        print(f"  {count:5} {name}")
    print("\nhow long it took until everything was back")
    for part, seconds in log.back.items():
        late = sum(one > GOAL for one in seconds)
        print(
            f"  {part}: {len(seconds)} times, median {sorted(seconds)[len(seconds) // 2]:.1f} s,"
            f" slowest {max(seconds):.1f} s, {late} over {GOAL:.0f} s"
        )
    states = Counter(run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower() for run in runs.values())
    codes = Counter(run.error.code for run in runs.values() if run.error.code)
    again = sum(run.attempt > 1 for run in runs.values())
    shown = [line[2] for line in lines(place.folder / "shown")]
    print("\nwhat came of it")
    print(
        f"  events   {len(tally.said)} by callers, {len(lines(place.folder / 'taken'))} by the adapter,"
        f" {len(runs)} runs in all"
    )
    print(f"  runs     {dict(states)}; {again} were begun more than once")
    print(f"  failed   with a notice: {dict(codes)}")
    print(f"  refused  and tried again: {dict(tally.refused)}")
    print(f"  shown    {len(shown)} messages on the platform, {shown.count('notice')} of them notices")
    print(f"  people   {len(tally.answered)} questions answered, {len(tally.decided)} approvals decided")
    print(f"  others   {dict(tally.counts)}, {len(tally.files)} files whole")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--keep", action="store_true", help="leave the folder with data and logs")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    folder = Path(tempfile.mkdtemp(prefix="portway-storm-"))
    print(f"storm of {given.minutes:g} minutes on {given.database}, seed {seed}, in {folder}", flush=True)
    try:
        wrong = asyncio.run(storm(folder, seed, given.minutes * 60, given.database))
    finally:
        print(f"\nagain: make faults MINUTES={given.minutes:g} SEED={seed} DATABASE={given.database}")
    print(f"\n{len(wrong)} violations" + "".join(f"\n  {one}" for one in wrong[:100]))
    if wrong or given.keep:
        print(f"data and logs are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
