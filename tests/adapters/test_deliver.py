"""Deliveries: in order, in pieces, with one outcome each."""

import asyncio
from collections.abc import Callable

from portway.adapters.kit.deliver import MAX_HELD, Deliverer
from portway.adapters.kit.ledger import SentLedger
from portway.adapters.kit.live_types import LiveUpdate
from portway.adapters.kit.platform import Doubtful, Refused, RetryLater, Sent
from portway.adapters.kit.types import (
    LinkState,
    Outbound,
    Outcome,
    OutcomeKind,
    OutMessage,
    Piece,
    SizeUnit,
    SurfaceLimits,
    Target,
)


class Wall:
    """A platform that takes messages of 64 characters, and does what a test says at each call."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.next: list[Callable[[], Exception | None]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, piece: Piece) -> Sent:
        await self.gate.wait()
        error = self.next.pop(0)() if self.next else None
        if error is not None:
            raise error
        self.texts.append(piece.text)
        return Sent(f"wall-{len(self.texts)}")

    async def act(self, outbound: Outbound) -> Sent:
        raise Refused("walls have no reactions")

    async def was_sent(self, piece: Piece) -> Sent | None:
        raise Doubtful("walls have no history")

    def run_changed(self, update: LiveUpdate) -> None: ...

    def typing_changed(self, target: Target, on: bool) -> None: ...

    def link_changed(self, state: LinkState) -> None: ...


class Desk:
    """A deliverer with its wall, and what it reports."""

    def __init__(self) -> None:
        self.wall = Wall()
        self.reports: list[Outcome] = []
        limits = SurfaceLimits(surface="wall", max_size=64, size_unit=SizeUnit.CHARACTERS, repeats_safely=True)
        self.deliverer = Deliverer(limits, SentLedger(None), self.reports.append)

    async def deliver(self, *outbounds: Outbound) -> list[tuple[str, OutcomeKind]]:
        """Everything at once; returns the outcomes in the order in which they were told."""
        self.reports.clear()
        async with asyncio.TaskGroup() as group:
            for outbound in outbounds:
                self.deliverer.accept(outbound, self.wall, group)
            await self.deliverer.until_idle()
        return [(report.delivery_id, report.kind) for report in self.reports]


def message(identifier: str, text: str, chat: str = "c") -> Outbound:
    target = Target("wall", "", "", "", "", chat, "person")
    return Outbound(identifier, "run_1", chat, target, OutMessage(f"msg_{identifier}", "message", text))


def failing(error: Exception) -> Callable[[], Exception]:
    return lambda: error


async def test_a_long_text_goes_out_in_pieces_and_a_retry_goes_on_behind_the_last_one() -> None:
    desk = Desk()
    text = "\n".join(letter * 60 for letter in "abc")
    desk.wall.next = [lambda: None, failing(RetryLater("busy", retry_after=7.0))]
    assert await desk.deliver(message("1", text)) == [("1", OutcomeKind.RETRYABLE)]
    assert desk.reports[0].retry_after == 7.0
    assert await desk.deliver(message("1", text)) == [("1", OutcomeKind.ACKNOWLEDGED)]
    assert desk.wall.texts == ["a" * 60, "b" * 60, "c" * 60]
    assert desk.reports[0].provider_message_id == "wall-1"


async def test_nothing_overtakes_what_has_to_be_tried_again() -> None:
    desk = Desk()
    desk.wall.next = [failing(RetryLater("busy"))]
    told = await desk.deliver(message("1", "first"), message("2", "second"), message("3", "elsewhere", "d"))
    assert sorted(told) == [
        ("1", OutcomeKind.RETRYABLE),
        ("2", OutcomeKind.RETRYABLE),
        ("3", OutcomeKind.ACKNOWLEDGED),
    ]
    assert desk.wall.texts == ["elsewhere"]
    await desk.deliver(message("1", "first"), message("2", "second"))
    assert desk.wall.texts == ["elsewhere", "first", "second"]


async def test_what_is_refused_or_doubtful_holds_up_nothing() -> None:
    desk = Desk()
    desk.wall.next = [failing(Refused("too rude")), failing(Doubtful("no answer")), failing(ValueError("a bug"))]
    told = await desk.deliver(*(message(str(number), f"m{number}") for number in range(4)))
    assert told == [
        ("0", OutcomeKind.FAILED),
        ("1", OutcomeKind.UNKNOWN),
        ("2", OutcomeKind.UNKNOWN),
        ("3", OutcomeKind.ACKNOWLEDGED),
    ]
    assert [report.code for report in desk.reports] == ["platform.refused", "platform.no_answer", "adapter.bug", ""]


async def test_a_delivery_that_is_under_way_or_done_is_not_begun_again() -> None:
    desk = Desk()
    desk.wall.gate.clear()
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            desk.deliverer.accept(message("1", "once"), desk.wall, group)
        desk.wall.gate.set()
        await desk.deliverer.until_idle()
        desk.deliverer.accept(message("1", "once"), desk.wall, group)
    assert desk.wall.texts == ["once"]
    assert [report.kind for report in desk.reports] == [OutcomeKind.ACKNOWLEDGED] * 2


async def test_more_than_it_can_hold_is_given_back_for_later() -> None:
    desk = Desk()
    desk.wall.gate.clear()
    async with asyncio.TaskGroup() as group:
        for number in range(MAX_HELD + 5):
            desk.deliverer.accept(message(str(number), "m", chat=str(number)), desk.wall, group)
        assert [report.kind for report in desk.reports] == [OutcomeKind.RETRYABLE] * 5
        desk.wall.gate.set()
        await desk.deliverer.until_idle()
    assert len(desk.wall.texts) == MAX_HELD
