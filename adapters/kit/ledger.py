"""What was sent: so that a delivery that comes again, after whatever crash, has one effect.

In memory for as long as the adapter runs; and, for platforms that do not recognise a repetition themselves, in the
host: a note is on disk there before each call to the platform. Adapters keep nothing on a disk of their own.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from portway.adapters.kit.types import Outcome, OutcomeKind

SLOTS = 1000
"""More than twice the deliveries that may be under way, and fewer than the values that the host keeps."""
_PREFIX = "sent/"


class Keeper(Protocol):
    """Keeps small values in the host."""

    async def keep(self, name: str, value: str) -> None:
        """Returns when the value is on disk."""
        ...

    def keep_soon(self, name: str, value: str) -> None:
        """The value goes out with the next frames, before whatever is sent later."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One delivery. Pieces before `sent` are at the platform; `begun` is one more while a call is under way."""

    delivery_id: str
    slot: int
    begun: int = 0
    sent: int = 0
    provider_message_id: str = ""
    outcome: Outcome | None = None

    @property
    def doubtful(self) -> bool:
        """A call was begun and nobody knows how it ended."""
        return self.begun > self.sent and self.outcome is None


class SentLedger:
    """The last deliveries, at most `slots`; the oldest is forgotten, and the host no longer asks for it by then."""

    def __init__(self, keeper: Keeper | None, slots: int = SLOTS) -> None:
        """Without a keeper the ledger is in memory only: for platforms that recognise a repetition."""
        self._keeper = keeper
        self._slots = slots
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._free = list(range(slots - 1, -1, -1))

    def restore(self, kept: Mapping[str, str]) -> None:
        """Takes up what an earlier process of this adapter had written down. What it cannot read it leaves alone."""
        for name, value in sorted(kept.items()):
            entry = _read(name, value, self._slots)
            if entry is not None and entry.delivery_id not in self._entries and entry.slot in self._free:
                self._free.remove(entry.slot)
                self._entries[entry.delivery_id] = entry

    def find(self, delivery_id: str) -> Entry | None:
        return self._entries.get(delivery_id)

    async def begin(self, delivery_id: str, index: int) -> Entry:
        """Notes that piece `index` is about to be sent. When this returns, a crash cannot hide it any more."""
        entry = self._entries.get(delivery_id) or Entry(delivery_id, self._take_slot())
        entry = replace(entry, begun=index + 1, outcome=None)
        self._put(entry)
        if self._keeper is not None:
            await self._keeper.keep(f"{_PREFIX}{entry.slot}", _write(entry))
        return entry

    def sent(self, delivery_id: str, index: int, provider_message_id: str) -> None:
        """Notes that the platform has piece `index`."""
        entry = self._entries[delivery_id]
        first = entry.provider_message_id or provider_message_id
        self._put(replace(entry, begun=index + 1, sent=index + 1, provider_message_id=first), tell=True)

    def not_sent(self, delivery_id: str, index: int) -> None:
        """Notes that piece `index` certainly did not reach the platform."""
        self._put(replace(self._entries[delivery_id], begun=index, sent=index), tell=True)

    def settle(self, outcome: Outcome) -> None:
        """Notes what the host is told about a delivery.

        After a crash only a good end is known again. A doubt is looked into once more: the delivery may come again
        because the host never heard of the doubt, and not because a person wants it sent again.
        """
        entry = self._entries.get(outcome.delivery_id)
        if entry is not None:
            self._put(replace(entry, outcome=outcome), tell=outcome.kind is OutcomeKind.ACKNOWLEDGED)

    def _put(self, entry: Entry, *, tell: bool = False) -> None:
        self._entries[entry.delivery_id] = entry
        self._entries.move_to_end(entry.delivery_id)
        if tell and self._keeper is not None:
            self._keeper.keep_soon(f"{_PREFIX}{entry.slot}", _write(entry))

    def _take_slot(self) -> int:
        if self._free:
            return self._free.pop()
        # Deliveries under way are fewer than the slots, so there is always a settled one to forget.
        settled = next(one for one in self._entries.values() if one.outcome is not None)
        del self._entries[settled.delivery_id]
        return settled.slot


def _write(entry: Entry) -> str:
    outcome = entry.outcome.kind.value if entry.outcome is not None else ""
    return json.dumps([entry.delivery_id, entry.begun, entry.sent, entry.provider_message_id, outcome])


def _read(name: str, value: str, slots: int) -> Entry | None:
    number = name.removeprefix(_PREFIX)
    if not name.startswith(_PREFIX) or not number.isdecimal() or int(number) >= slots:
        return None
    try:
        delivery_id, begun, sent, provider, kind = json.loads(value)
        outcome = Outcome(delivery_id, OutcomeKind(kind), provider) if kind else None
        return Entry(str(delivery_id), int(number), int(begun), int(sent), str(provider), outcome)
    except (ValueError, TypeError):
        return None
