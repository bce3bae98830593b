"""People and operators under the storm: they answer questions, decide approvals and rotate the key."""

from __future__ import annotations

import asyncio
import random

from portway.rpc.status import errors_by_meaning
from portway.v1 import operations_pb2, run_pb2
from tests.asking_people import an_answer
from tests.deciding import approvals, decide
from tests.faults.storm.installation import CALLERS, Installation
from tests.faults.storm.load import TROUBLE, Tally, pause

LOOK = 0.3
ROTATE_EVERY = 60


class People:
    """Everybody who is not a caller. They go on until nothing is open after the stop."""

    def __init__(self, place: Installation, tally: Tally, seed: int) -> None:
        self._place = place
        self._tally = tally
        self._chance = random.Random(seed)

    async def answer(self) -> None:
        """Every open question, each with one request id however often that is tried."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                async with self._place.client(CALLERS) as host:
                    with errors_by_meaning():
                        found = await host.runs.stub.ListInteractions(
                            run_pb2.ListInteractionsRequest(open_only=True, page_size=50), timeout=5
                        )
                    for one in found.interactions:
                        word = one.interaction.fallback_text.removeprefix("Please say ").removesuffix(".")
                        request = run_pb2.SubmitInteractionRequest(
                            answer=an_answer(one.run_id, word=word), request_id=f"answer-{one.run_id}"
                        )
                        with errors_by_meaning():
                            given = await host.runs.stub.SubmitInteraction(request, timeout=5)
                        before = self._tally.answered.setdefault(one.run_id, given.run_id)
                        if before != given.run_id:
                            self._tally.wrong.append(
                                f"I3: the answer to {one.run_id} began {before} and {given.run_id}"
                            )
            except TROUBLE as error:
                await asyncio.sleep(pause(error))

    async def decide(self) -> None:
        """Every pending approval; one in five is refused."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                async with self._place.client(CALLERS) as host:
                    for one in await approvals(host.runs.stub, pending_only=True):
                        decided = await decide(host.runs.stub, one, approve=self._chance.random() < 0.8)
                        self._tally.decided.add(decided.approval_id)
            except TROUBLE as error:
                await asyncio.sleep(pause(error))

    async def rotate(self) -> None:
        while True:
            await asyncio.sleep(ROTATE_EVERY)
            try:
                async with self._place.client(CALLERS) as host:
                    with errors_by_meaning():
                        await host.operations.RotateEncryptionKey(
                            operations_pb2.RotateEncryptionKeyRequest(), timeout=10
                        )
                self._tally.counts["rotations of the key"] += 1
            except TROUBLE as error:
                self._tally.refused[f"rotation: {type(error).__name__}"] += 1
