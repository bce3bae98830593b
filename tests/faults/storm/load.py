"""Callers of the API under the storm: each says one thing after the other and repeats what was not answered."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field

import grpc

from portway.clients.host import Portway
from portway.rpc.errors import Conflict, LimitExceeded, PortwayError
from portway.rpc.status import errors_by_meaning
from portway.v1 import event_pb2, run_pb2
from tests.faults.host_process import ENDED
from tests.faults.storm.installation import CALLERS, Installation
from tests.server.hosting import a_message

CALLS = 8
DEEDS = ("say", "slow", "count", "mark", "box", "model", "ask", "approve", "calm")
AGENTS = {"approve": "careful", "calm": "calm"}
TROUBLE = (PortwayError, OSError, ValueError, KeyError, grpc.RpcError)


@dataclass
class Said:
    """One acknowledged message. `duplicates` and `clashes` are repetitions that were answered as they must be."""

    key: str
    deed: str
    event_id: str
    run_id: str
    conversation_id: str
    binding: str = ""


@dataclass
class Tally:
    """What callers saw. `wrong` are answers that break the contract, told at the end."""

    said: dict[str, Said] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    seen: dict[str, dict[int, bytes]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    answered: dict[str, str] = field(default_factory=dict)
    decided: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Caller:
    """One conversation of the API."""

    def __init__(self, number: int, place: Installation, tally: Tally, stop: asyncio.Event, seed: int) -> None:
        self._name = f"caller{number}"
        self._place = place
        self._tally = tally
        self._stop = stop
        self._chance = random.Random(seed * 1000 + number)

    async def work(self) -> None:
        number = 0
        while not self._stop.is_set():
            deed = self._chance.choice(DEEDS)
            word = f"{self._name}-{number}"
            said = await self._say(word, deed)
            await self._repeat(said)
            await self._follow(said)
            if number % 5 == 0:
                await self._upload(word)
            number += 1

    def _request(self, key: str, deed: str, more: str = "") -> event_pb2.SubmitEventRequest:
        event = a_message(f"{deed} {key}{more}", chat=self._name, surface="api")
        return event_pb2.SubmitEventRequest(event=event, idempotency_key=key, agent_id=AGENTS.get(deed, "deeds"))

    async def _say(self, key: str, deed: str) -> Said:
        """Until it is acknowledged, however often that has to be tried."""
        while True:
            try:
                async with self._place.client(CALLERS) as host:
                    answer = await self._submit(host, self._request(key, deed))
            except TROUBLE as error:
                self._tally.refused[_reason(error)] += 1
                await asyncio.sleep(pause(error))
            else:
                self._tally.counts["acknowledged"] += 1
                self._tally.counts["acknowledged only when asked again"] += answer.duplicate
                said = Said(key, deed, answer.event_id, answer.run_id, answer.conversation_id)
                self._tally.said[key] = said
                return said

    async def _submit(self, host: Portway, request: event_pb2.SubmitEventRequest) -> event_pb2.SubmitEventResponse:
        with errors_by_meaning():
            answer: event_pb2.SubmitEventResponse = await host.events.SubmitEvent(request, timeout=5)
        return answer

    async def _repeat(self, said: Said) -> None:
        """The same again is known; another body under its key is refused."""
        kind = self._chance.choice(("none", "same", "none", "other"))
        try:
            async with self._place.client(CALLERS) as host:
                if kind == "same":
                    again = await self._submit(host, self._request(said.key, said.deed))
                    self._tally.counts["repetitions recognised"] += 1
                    if not again.duplicate or (again.event_id, again.run_id) != (said.event_id, said.run_id):
                        self._tally.wrong.append(f"I2: {said.key} again is {again}, and was {said}")
                if kind == "other":
                    again = await self._submit(host, self._request(said.key, said.deed, " changed"))
                    self._tally.wrong.append(f"I2: {said.key} with another body was taken: {again}")
        except Conflict:
            self._tally.counts["clashing keys refused"] += 1
        except TROUBLE:
            # The storm; the next repetition asks again.
            pass

    async def _follow(self, said: Said) -> None:
        """Live to the end of the run, over breaks; keeps what was committed, to compare it with the replay."""
        seen = self._tally.seen.setdefault(said.run_id, {})
        while True:
            try:
                async with self._place.client(CALLERS) as host:
                    run = await host.runs.get(said.run_id)
                    binding = f"{run.agent_id} {run.binding_id}"
                    if said.binding not in ("", binding):
                        self._tally.wrong.append(f"I4: {said.run_id} was bound to {said.binding}, then to {binding}")
                    said.binding = binding
                    await self._watch(host, said.run_id, seen)
                    if (await host.runs.get(said.run_id)).state in ENDED:
                        return
            except TROUBLE as error:
                self._tally.counts["watches taken up again"] += 1
                await asyncio.sleep(pause(error))

    async def _watch(self, host: Portway, run_id: str, seen: dict[int, bytes]) -> None:
        request = run_pb2.WatchRunRequest(run_id=run_id, after_sequence=max(seen, default=0), committed_only=True)
        with errors_by_meaning():
            async for answer in host.runs.stub.WatchRun(request, timeout=60):
                for event in answer.events:
                    kept = event.SerializeToString(deterministic=True)
                    if event.sequence and seen.setdefault(event.sequence, kept) != kept:
                        self._tally.wrong.append(f"I7: {run_id} has two events {event.sequence}")

    async def _upload(self, word: str) -> None:
        """A file of some size. What is refused may be there or not, but never in part."""
        content = hashlib.sha256(word.encode()).digest() * self._chance.randrange(1, 40_000)
        try:
            async with asyncio.timeout(10), self._place.client(CALLERS) as host:
                made = await host.artifacts.create(content, name=f"{word}.bin")
        except (*TROUBLE, TimeoutError) as error:
            self._tally.refused[f"file: {_reason(error)}"] += 1
        else:
            self._tally.files[made.ref.artifact_id] = hashlib.sha256(content).digest()


def _reason(error: BaseException) -> str:
    return str(error.reason) if isinstance(error, PortwayError) else type(error).__name__


def pause(error: BaseException) -> float:
    if isinstance(error, LimitExceeded) and error.retry_after is not None:
        return min(error.retry_after, 2.0)
    return 0.1
