"""The sent-ledger: what was sent is known again after a crash."""

import asyncio

from portway.adapters.kit.ledger import SentLedger
from portway.adapters.kit.types import Outcome, OutcomeKind


class Kept:
    """What the host keeps, with each write on disk when it returns."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def keep(self, name: str, value: str) -> None:
        await self.gate.wait()
        self.values[name] = value

    def keep_soon(self, name: str, value: str) -> None:
        self.values[name] = value


async def test_a_call_begins_only_when_its_note_is_on_disk() -> None:
    kept = Kept()
    kept.gate.clear()
    ledger = SentLedger(kept)
    begun = asyncio.ensure_future(ledger.begin("dlv_1", 0))
    await asyncio.sleep(0)
    assert not begun.done()
    kept.gate.set()
    await begun
    assert len(kept.values) == 1


async def test_after_a_crash_an_unfinished_call_is_doubtful_and_a_finished_one_known() -> None:
    kept = Kept()
    ledger = SentLedger(kept)
    await ledger.begin("dlv_cut", 0)
    await ledger.begin("dlv_done", 0)
    ledger.sent("dlv_done", 0, "platform-7")
    ledger.settle(Outcome("dlv_done", OutcomeKind.ACKNOWLEDGED, "platform-7"))
    again = SentLedger(kept)
    again.restore(kept.values)
    cut, done = again.find("dlv_cut"), again.find("dlv_done")
    assert cut is not None and cut.doubtful
    assert done is not None and done.outcome == Outcome("dlv_done", OutcomeKind.ACKNOWLEDGED, "platform-7")


async def test_a_delivery_of_several_pieces_goes_on_behind_the_last_that_arrived() -> None:
    kept = Kept()
    ledger = SentLedger(kept)
    for index in range(2):
        await ledger.begin("dlv_1", index)
        ledger.sent("dlv_1", index, f"p{index}")
    again = SentLedger(kept)
    again.restore(kept.values)
    entry = again.find("dlv_1")
    assert entry is not None
    assert (entry.sent, entry.doubtful, entry.provider_message_id) == (2, False, "p0")


async def test_the_oldest_settled_entry_makes_room_and_slots_are_used_again() -> None:
    kept = Kept()
    ledger = SentLedger(kept, slots=3)
    await ledger.begin("open", 0)
    for number in range(5):
        await ledger.begin(f"dlv_{number}", 0)
        ledger.sent(f"dlv_{number}", 0, "")
        ledger.settle(Outcome(f"dlv_{number}", OutcomeKind.ACKNOWLEDGED))
    assert len(kept.values) == 3
    assert ledger.find("open") is not None
    assert ledger.find("dlv_0") is None
    assert ledger.find("dlv_4") is not None


async def test_values_that_are_not_its_own_are_left_alone() -> None:
    ledger = SentLedger(Kept(), slots=2)
    ledger.restore({"telegram:update_id": "7", "sent/x": "[]", "sent/1": "not json", "sent/99": '["d",1,1,"",""]'})
    assert ledger.find("d") is None
    await ledger.begin("dlv_1", 0)
    await ledger.begin("dlv_2", 0)
