"""What goes over an adapter's stream, both ways, and the queue of what is to be written to it."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from portway.rpc.errors import PortwayError
from portway.server.adapters.types import Introduction
from portway.server.deliveries.settle import Result
from portway.server.deliveries.types import Delivery
from portway.server.events.submit import Submit
from portway.server.events.types import Accepted

PROTOCOL_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """`credit`: deliveries that it may hold without a result, per channel. `recent`: results that may be lost."""

    introduction: Introduction
    protocol_version: int
    credit: int
    recent: tuple[Result, ...] = ()
    live_updates: bool = False


@dataclass(frozen=True, slots=True)
class EventSubmitted:
    """`submit` is the error where the event cannot even be read."""

    ref: int
    submit: Submit | PortwayError


@dataclass(frozen=True, slots=True)
class ResultTold:
    result: Result


@dataclass(frozen=True, slots=True)
class CursorSaved:
    """`ref` 0: no answer is wanted. An empty value forgets the name."""

    ref: int
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class WatchAsked:
    run_id: str
    after_sequence: int
    stop: bool


Incoming: TypeAlias = EventSubmitted | ResultTold | CursorSaved | WatchAsked


@dataclass(frozen=True, slots=True)
class Welcome:
    generation: int
    cursors: dict[str, str]


@dataclass(frozen=True, slots=True)
class EventAnswered:
    """On disk, or refused."""

    ref: int
    answer: Accepted | PortwayError


@dataclass(frozen=True, slots=True)
class CursorAnswered:
    ref: int
    error: PortwayError | None


@dataclass(frozen=True, slots=True)
class ToDeliver:
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class RunUpdated:
    """Serialized events of a run, or why watching it failed."""

    run_id: str
    conversation_id: str
    payloads: Sequence[bytes] = ()
    error: PortwayError | None = None


@dataclass(frozen=True, slots=True)
class TypingShown:
    """`target` is a serialized DeliveryTarget."""

    target: bytes
    on: bool


@dataclass(frozen=True, slots=True)
class Draining:
    reason: str
    retry_after: float


@dataclass(frozen=True, slots=True)
class ReplacedBy:
    generation: int


Outgoing: TypeAlias = (
    Welcome | EventAnswered | CursorAnswered | ToDeliver | RunUpdated | TypingShown | Draining | ReplacedBy
)

# Chats whose sign waits to be written; a sign that is dropped is shown again soon, or runs out by itself.
_SIGNS = 1_000


class Outbound:
    """Frames for one connection, in order.

    Nothing piles up for an adapter that does not read: an answer needs a place that is taken before the request is
    looked at, deliveries have their credit, and live text waits for room while its feed joins it.
    """

    def __init__(self, *, answers: int, updates: int) -> None:
        self._frames: deque[Outgoing] = deque()
        self._signs: dict[bytes, bool] = {}
        self._answers = asyncio.Semaphore(answers)
        self._updates = asyncio.Semaphore(updates)
        self._filled = asyncio.Event()
        self._closed = False

    def put(self, frame: Outgoing) -> None:
        self._frames.append(frame)
        self._filled.set()

    def put_sign(self, target: bytes, on: bool) -> None:
        """Only the newest for each chat; written when there is nothing else to write."""
        self._signs.pop(target, None)
        self._signs[target] = on
        if len(self._signs) > _SIGNS:
            del self._signs[next(iter(self._signs))]
        self._filled.set()

    async def put_update(self, frame: RunUpdated) -> None:
        await self._updates.acquire()
        self.put(frame)

    async def reserve_answer(self) -> None:
        """A place for one answer; given back when the answer is taken for writing."""
        await self._answers.acquire()

    def give_back_answer(self) -> None:
        """There will be no answer."""
        self._answers.release()

    def close(self) -> None:
        """Nothing more comes; what is there is still written."""
        self._closed = True
        self._filled.set()

    async def next(self) -> Outgoing | None:
        """None after the last."""
        while not self._frames:
            if self._closed:
                return None
            if self._signs:
                target = next(iter(self._signs))
                return TypingShown(target, self._signs.pop(target))
            self._filled.clear()
            await self._filled.wait()
        frame = self._frames.popleft()
        if isinstance(frame, RunUpdated):
            self._updates.release()
        elif isinstance(frame, EventAnswered | CursorAnswered):
            self._answers.release()
        return frame
