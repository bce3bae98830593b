"""What one channel has to send, in memory: a lane for each conversation, in order, one of each on its way at a time.

Nothing here waits or touches the database. Times are seconds of a monotonic clock, so that a step of the wall clock
moves nothing.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from portway.server.deliveries.settle import LONGEST_PAUSE
from portway.server.deliveries.types import Delivery
from portway.server.storage_engine.clock import SECOND, Micros


@dataclass(slots=True)
class Lane:
    """The deliveries of one conversation. `waiting[0]` is the next; nothing of the lane goes before `held_until`."""

    waiting: deque[Delivery] = field(default_factory=deque)
    in_flight: Delivery | None = None
    held_until: float = 0.0


@dataclass(slots=True)
class _Filling:
    """What happened while the database is read. `unsure`: something is pending that the reading shows wrongly."""

    offered: list[Delivery] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    unsure: bool = False


class ChannelQueue:
    """A channel's pending deliveries, at most `capacity` of them.

    It is `complete` while it holds every pending delivery of the channel. Past its capacity it holds no more than the
    next of some lanes, and is filled from the database whenever it runs dry (`needs_filling`).
    """

    def __init__(self, *, credit: int, capacity: int) -> None:
        self.credit = credit
        self.complete = False
        self._capacity = capacity
        self._size = 0
        self._lanes: dict[str, Lane] = {}
        self._ready: deque[str] = deque()
        self._held: list[tuple[float, str]] = []
        self._in_flight: dict[str, str] = {}
        # The database may have something to send that is not here.
        self._stale = True
        # While a filling is being read: what ended or began meanwhile, which it shows as it was before.
        self._filling: _Filling | None = None

    @property
    def size(self) -> int:
        """Deliveries that are here, on their way or not."""
        return self._size

    @property
    def idle(self) -> bool:
        """Nothing is lost when it is forgotten."""
        return self.complete and not self._lanes

    @property
    def needs_filling(self) -> bool:
        """It could send more than it has."""
        return self._stale and self._filling is None and not self._ready and len(self._in_flight) < self.credit

    def offer(self, delivery: Delivery) -> None:
        """A delivery that was just committed."""
        if self._filling is not None:
            self._filling.offered.append(delivery)
        elif not self.complete:
            self._stale = True
        elif self._is_here(delivery):
            # A reading may show a commit before the loop is told of it.
            return
        elif self._size < self._capacity:
            self._insert(delivery)
        else:
            self.spill()

    def begin_filling(self) -> None:
        """The database is being read now."""
        self._filling = _Filling()

    def fill(self, deliveries: Iterable[Delivery], *, complete: bool, now: float, wall: Micros) -> None:
        """What the database had pending at its time `wall`: all of it where `complete`, otherwise the next of each lane
        whose time had come."""
        meanwhile, self._filling = self._filling or _Filling(), None
        self.spill()
        if meanwhile.unsure:
            # A lane might seem to begin with its second delivery. Read again.
            return
        self.complete = complete
        self._stale = not complete and bool(meanwhile.offered or meanwhile.ended)
        known = meanwhile.ended | self._in_flight.keys()
        for delivery in deliveries:
            if delivery.delivery_id not in known:
                known.add(delivery.delivery_id)
                self._insert(delivery)
                self._hold(delivery, now, wall)
        if complete:
            for delivery in meanwhile.offered:
                if delivery.delivery_id not in known:
                    self._insert(delivery)

    def fail_filling(self) -> None:
        """The database could not be read."""
        self._filling = None
        self._stale = True

    def spill(self) -> None:
        """Forget what is not on its way; the database has it."""
        self.complete = False
        self._stale = True
        self._ready.clear()
        self._held.clear()
        self._size = len(self._in_flight)
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.in_flight is not None}
        for lane in self._lanes.values():
            lane.waiting.clear()

    def look_again(self) -> None:
        """Time has passed: what was not due may be."""
        self._stale = self._stale or not self.complete

    def put_back(self, delivery: Delivery) -> None:
        """A delivery that had ended is to be sent again: it takes its old place."""
        self._note(delivery.delivery_id, still_pending=True)
        if self.complete:
            self._insert(delivery)
        else:
            self._stale = True

    def take(self, now: float) -> Delivery | None:
        """The next delivery to send, now on its way; None when nothing may go."""
        while self._held and self._held[0][0] <= now:
            self._ready.append(heapq.heappop(self._held)[1])
        while self._ready and len(self._in_flight) < self.credit:
            key = self._ready.popleft()
            lane = self._lanes.get(key)
            if lane is None or lane.in_flight is not None or not lane.waiting or lane.held_until > now:
                continue
            delivery = lane.waiting.popleft()
            lane.in_flight = delivery
            self._in_flight[delivery.delivery_id] = key
            return delivery
        return None

    def flying(self, delivery_id: str) -> Delivery | None:
        """The delivery, if it is on its way."""
        key = self._in_flight.get(delivery_id)
        return self._lanes[key].in_flight if key is not None else None

    def finish(self, delivery_id: str) -> None:
        """It has ended, or left for the platform: the next of its lane may go."""
        self._note(delivery_id, still_pending=False)
        key = self._in_flight.pop(delivery_id, None)
        if key is None:
            self._drop(delivery_id)
            return
        self._lanes[key].in_flight = None
        self._size -= 1
        self._stale = self._stale or not self.complete
        self._go_on(key)

    def postpone(self, delivery: Delivery, until: float) -> None:
        """It is to be tried again, not before `until`; its lane waits for it."""
        self._note(delivery.delivery_id, still_pending=True)
        key = self._in_flight.pop(delivery.delivery_id, None)
        if key is None:
            return
        lane = self._lanes[key]
        lane.in_flight = None
        if not self.complete:
            # The database knows when it is due: it comes back with a filling. The lane holds nothing else.
            self._size -= 1
            self._go_on(key)
            return
        lane.waiting.appendleft(delivery)
        lane.held_until = until
        heapq.heappush(self._held, (until, key))

    def land(self) -> None:
        """The connection is gone: what was on its way is pending again, in its old place."""
        for key in self._in_flight.values():
            lane = self._lanes[key]
            if lane.in_flight is not None:
                lane.waiting.appendleft(lane.in_flight)
                lane.in_flight = None
                self._ready.append(key)
        self._in_flight.clear()

    def next_time(self) -> float | None:
        """When a held lane may go on; None when none is held."""
        return self._held[0][0] if self._held else None

    def _is_here(self, delivery: Delivery) -> bool:
        if delivery.delivery_id in self._in_flight:
            return True
        lane = self._lanes.get(delivery.conversation_id)
        if lane is None or not lane.waiting or lane.waiting[-1].sequence < delivery.sequence:
            return False
        return any(one.delivery_id == delivery.delivery_id for one in lane.waiting)

    def _insert(self, delivery: Delivery) -> None:
        lane = self._lanes.setdefault(delivery.conversation_id, Lane())
        if not lane.waiting or lane.waiting[-1].sequence < delivery.sequence:
            lane.waiting.append(delivery)
        else:
            place = sum(1 for one in lane.waiting if one.sequence < delivery.sequence)
            lane.waiting.insert(place, delivery)
        self._size += 1
        if lane.in_flight is None and lane.waiting[0] is delivery:
            self._ready.append(delivery.conversation_id)

    def _hold(self, delivery: Delivery, now: float, wall: int) -> None:
        lane = self._lanes[delivery.conversation_id]
        # No longer than any pause between two attempts, whatever the wall clock did meanwhile.
        wait = min((delivery.next_attempt_time - wall) / SECOND, LONGEST_PAUSE)
        if wait > 0 and lane.waiting[0] is delivery:
            lane.held_until = now + wait
            heapq.heappush(self._held, (lane.held_until, delivery.conversation_id))

    def _go_on(self, key: str) -> None:
        lane = self._lanes[key]
        if lane.waiting:
            self._ready.append(key)
        elif lane.in_flight is None:
            del self._lanes[key]

    def _note(self, delivery_id: str, *, still_pending: bool) -> None:
        if self._filling is None:
            return
        self._filling.ended.add(delivery_id)
        self._filling.unsure = self._filling.unsure or still_pending

    def _drop(self, delivery_id: str) -> None:
        """Take out one that waits. Rare (an operator, an expiry), so it may look at all of them."""
        for key, lane in self._lanes.items():
            kept = deque(one for one in lane.waiting if one.delivery_id != delivery_id)
            if len(kept) != len(lane.waiting):
                self._size -= 1
                lane.waiting = kept
                lane.held_until = 0.0
                self._go_on(key)
                return
