"""A chat platform in a folder, and the adapter to it, as a process of its own.

People of the platform write messages that are numbered and noted in `sent` first, so that a killed adapter goes on with
what it had not handed over. What the platform shows is a line in `shown`, with the id of the delivery: the platform
recognises nothing, so that only Portway's own notes keep a message from standing there twice.
"""

import argparse
import asyncio
import os
import random
from contextlib import suppress
from pathlib import Path

from portway.adapters.kit.dial import Dial
from portway.adapters.kit.link import Identity, Link
from portway.adapters.kit.live_types import LiveUpdate
from portway.adapters.kit.platform import Sent
from portway.adapters.kit.types import Inbound, LinkState, Outbound, OutMessage, Piece, SurfaceLimits, Target
from portway.rpc.errors import PortwayError

SURFACE = "storm"
CHATS = 4
DEEDS = ("say", "slow", "count", "mark", "say")
_PAUSE = (0.2, 1.0)


def append(path: Path, line: str) -> None:
    """One line in one write: a kill leaves it whole or away."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def lines(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []


class Chats:
    """What the platform shows. A message is there from its line on, whether or not the adapter lives to say so."""

    def __init__(self, folder: Path) -> None:
        self._shown = folder / "shown"
        self._chance = random.Random()

    async def send(self, piece: Piece) -> Sent:
        await asyncio.sleep(self._chance.random() * 0.02)
        payload = piece.outbound.payload
        kind = payload.kind if isinstance(payload, OutMessage) else type(payload).__name__
        text = piece.text.replace("\n", " ").replace("\t", " ")
        append(self._shown, "\t".join((piece.outbound.delivery_id, piece.outbound.conversation_id, kind, text)))
        await asyncio.sleep(self._chance.random() * 0.02)
        return Sent(piece.key)

    async def was_sent(self, piece: Piece) -> Sent | None:
        """The platform has a history that can be looked through."""
        there = any(line[0] == piece.outbound.delivery_id for line in lines(self._shown))
        return Sent(piece.key) if there else None

    async def act(self, outbound: Outbound) -> Sent:
        return Sent()

    def run_changed(self, update: LiveUpdate) -> None:
        """Nobody looks at live text here."""

    def typing_changed(self, target: Target, on: bool) -> None: ...

    def link_changed(self, state: LinkState) -> None:
        """Nor at the connection."""


class Person:
    """Writes one message after the other in one chat, each with the number of the last one plus one."""

    def __init__(self, link: Link, folder: Path, chat: str) -> None:
        self._link = link
        self._sent = folder / f"sent-{chat}"
        self._taken = folder / "taken"
        self._stop = folder / "stop"
        self._chat = chat
        self._chance = random.Random()

    async def write(self) -> None:
        sent = len(lines(self._sent))
        taken = {line[0] for line in lines(self._taken)}
        if sent and f"{self._chat}-{sent - 1}" not in taken:
            await self._hand_over(sent - 1)
        while not self._stop.exists():
            await asyncio.sleep(self._chance.uniform(*_PAUSE))
            append(self._sent, str(sent))
            await self._hand_over(sent)
            sent += 1

    async def _hand_over(self, number: int) -> None:
        key = f"{self._chat}-{number}"
        inbound = Inbound(
            key=key,
            surface=SURFACE,
            launcher_type="person",
            launcher_id=self._chat,
            actor_id=f"person-of-{self._chat}",
            text=f"{DEEDS[number % len(DEEDS)]} {key}",
        )
        while True:
            try:
                accepted = await self._link.submit(inbound)
            except PortwayError:
                await asyncio.sleep(0.2)
            else:
                append(self._taken, "\t".join((key, accepted.event_id, accepted.run_id, accepted.conversation_id)))
                return


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--token", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    dial = Dial(given.host, given.token)
    link = Link(dial, Identity("storm", SURFACE, "1"), SurfaceLimits(surface=SURFACE))
    people = [Person(link, given.folder, f"chat{number}") for number in range(CHATS)]
    async with asyncio.TaskGroup() as group:
        group.create_task(link.run(Chats(given.folder)))
        for person in people:
            group.create_task(person.write())


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
