"""The queue of one channel: order within conversations, bounds, and agreement with the database."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from portway.server.deliveries.lanes import ChannelQueue
from portway.server.deliveries.types import Delivery, DeliveryState

SECOND = 1_000_000


def a_delivery(conversation_id: str, sequence: int, next_attempt_time: int = 0) -> Delivery:
    return Delivery(
        "default",
        f"dlv_{conversation_id}_{sequence}",
        conversation_id,
        "web_chat",
        "",
        b"",
        b"",
        "",
        "",
        0,
        sequence,
        DeliveryState.PENDING,
        0,
        next_attempt_time,
        "",
        "",
        "",
        sequence,
        0,
    )


def a_queue(credit: int = 16, capacity: int = 100) -> ChannelQueue:
    queue = ChannelQueue(credit=credit, capacity=capacity)
    queue.fill((), complete=True, now=0.0, wall=0)
    return queue


def taken(queue: ChannelQueue, now: float = 0.0) -> list[str]:
    found = []
    while (delivery := queue.take(now)) is not None:
        found.append(delivery.delivery_id)
    return found


def test_one_delivery_of_a_conversation_is_on_its_way_at_a_time() -> None:
    queue = a_queue()
    for sequence in (1, 2):
        queue.offer(a_delivery("a", sequence))
    queue.offer(a_delivery("b", 1))
    assert taken(queue) == ["dlv_a_1", "dlv_b_1"]
    queue.finish("dlv_a_1")
    assert taken(queue) == ["dlv_a_2"]


def test_no_more_are_on_their_way_than_the_adapter_has_credit_for() -> None:
    queue = a_queue(credit=2)
    for name in "abc":
        queue.offer(a_delivery(name, 1))
    assert len(taken(queue)) == 2
    queue.finish("dlv_b_1")
    assert taken(queue) == ["dlv_c_1"]


def test_a_postponed_delivery_holds_up_its_conversation_and_no_other() -> None:
    queue = a_queue()
    first = a_delivery("a", 1)
    for delivery in (first, a_delivery("a", 2), a_delivery("b", 1)):
        queue.offer(delivery)
    taken(queue)
    queue.postpone(first, until=10.0)
    queue.finish("dlv_b_1")
    queue.offer(a_delivery("b", 2))
    assert taken(queue, now=9.9) == ["dlv_b_2"]
    assert taken(queue, now=10.0) == ["dlv_a_1"]


def test_what_was_on_its_way_when_the_connection_broke_goes_again_first() -> None:
    queue = a_queue()
    for sequence in (1, 2):
        queue.offer(a_delivery("a", sequence))
    taken(queue)
    queue.land()
    assert taken(queue) == ["dlv_a_1"]


def test_past_its_capacity_it_asks_the_database_for_more() -> None:
    queue = a_queue(credit=1, capacity=2)
    for name in "abc":
        queue.offer(a_delivery(name, 1))
    assert not queue.complete
    assert queue.needs_filling
    queue.begin_filling()
    queue.fill([a_delivery(name, 1) for name in "ab"], complete=False, now=0.0, wall=0)
    assert taken(queue) == ["dlv_a_1"]
    queue.finish("dlv_a_1")
    assert taken(queue) == ["dlv_b_1"]
    queue.finish("dlv_b_1")
    assert queue.needs_filling


def test_what_is_committed_while_the_database_is_read_is_not_missed_and_not_doubled() -> None:
    queue = ChannelQueue(credit=9, capacity=9)
    queue.begin_filling()
    seen, unseen = a_delivery("a", 1), a_delivery("b", 1)
    queue.offer(seen)
    queue.offer(unseen)
    queue.fill([seen], complete=True, now=0.0, wall=0)
    assert taken(queue) == ["dlv_a_1", "dlv_b_1"]
    assert queue.size == 2


def test_what_the_database_shows_before_its_commit_is_told_is_not_doubled() -> None:
    queue = ChannelQueue(credit=1, capacity=9)
    sent, waiting = a_delivery("a", 1), a_delivery("b", 1)
    queue.begin_filling()
    queue.fill([sent, waiting], complete=True, now=0.0, wall=0)
    assert taken(queue) == ["dlv_a_1"]
    for told in (sent, waiting):
        queue.offer(told)
    queue.finish("dlv_a_1")
    assert taken(queue) == ["dlv_b_1"]
    queue.finish("dlv_b_1")
    assert taken(queue) == []
    assert queue.size == 0


def test_what_ended_while_the_database_was_read_is_not_sent_again() -> None:
    queue = ChannelQueue(credit=9, capacity=9)
    queue.fill([a_delivery("a", 1)], complete=False, now=0.0, wall=0)
    taken(queue)
    queue.begin_filling()
    queue.finish("dlv_a_1")
    queue.fill([a_delivery("a", 1), a_delivery("a", 2)], complete=True, now=0.0, wall=0)
    assert taken(queue) == ["dlv_a_2"]


def test_a_reading_that_could_show_a_conversation_out_of_order_is_thrown_away() -> None:
    queue = a_queue()
    first = a_delivery("a", 1)
    queue.offer(first)
    taken(queue)
    queue.begin_filling()
    queue.postpone(first, until=5.0)
    queue.fill([first, a_delivery("a", 2)], complete=True, now=0.0, wall=0)
    assert taken(queue) == []
    assert queue.needs_filling


def test_a_pause_that_outlives_a_restart_is_kept_but_never_longer_than_any_pause() -> None:
    queue = ChannelQueue(credit=9, capacity=9)
    rows = [a_delivery("a", 1, next_attempt_time=20 * SECOND), a_delivery("b", 1, next_attempt_time=10**15)]
    queue.fill(rows, complete=True, now=100.0, wall=10 * SECOND)
    assert taken(queue, now=109.9) == []
    assert taken(queue, now=110.0) == ["dlv_a_1"]
    assert taken(queue, now=400.0) == ["dlv_b_1"]


def test_a_delivery_that_is_tried_again_by_an_operator_takes_its_old_place() -> None:
    queue = a_queue(credit=1)
    queue.offer(a_delivery("b", 1))
    assert taken(queue) == ["dlv_b_1"]
    for sequence in (3, 4):
        queue.offer(a_delivery("a", sequence))
    queue.put_back(a_delivery("a", 2))
    order: list[str] = []
    for _ in range(3):
        queue.finish(order[-1] if order else "dlv_b_1")
        order += taken(queue)
    assert order == ["dlv_a_2", "dlv_a_3", "dlv_a_4"]


def test_a_delivery_that_is_given_up_while_it_waits_lets_the_next_one_go() -> None:
    queue = a_queue()
    first = a_delivery("a", 1)
    queue.offer(first)
    queue.offer(a_delivery("a", 2))
    taken(queue)
    queue.postpone(first, until=60.0)
    queue.finish("dlv_a_1")
    assert taken(queue) == ["dlv_a_2"]


STEPS = st.lists(
    st.tuples(st.sampled_from(["offer", "take", "finish", "postpone", "land", "fill"]), st.integers(0, 3)),
    max_size=120,
)


@given(steps=STEPS, capacity=st.integers(1, 6), credit=st.integers(1, 3))
def test_whatever_happens_each_is_sent_in_order_and_none_is_lost(
    steps: list[tuple[str, int]], capacity: int, credit: int
) -> None:
    """The database is a dict; `fill` reads it as the outbox does."""
    world = _World(capacity, credit)
    for step, choice in steps:
        world.step(step, choice)
    world.finish_everything()
    assert world.pending == {}
    for conversation_id, ended in world.ended.items():
        assert ended == list(range(1, world.made[conversation_id] + 1))


class _World:
    def __init__(self, capacity: int, credit: int) -> None:
        self.queue = ChannelQueue(credit=credit, capacity=capacity)
        self.capacity = capacity
        self.now = 0.0
        self.pending: dict[str, Delivery] = {}
        self.flying: dict[str, Delivery] = {}
        self.made: dict[str, int] = {}
        self.ended: dict[str, list[int]] = {}

    def step(self, step: str, choice: int) -> None:
        self.now += 0.5
        match step:
            case "offer":
                name = f"c{choice}"
                self.made[name] = self.made.get(name, 0) + 1
                delivery = a_delivery(name, self.made[name])
                self.pending[delivery.delivery_id] = delivery
                self.queue.offer(delivery)
            case "take":
                self._take()
            case "finish" if self.flying:
                self._finish(list(self.flying)[choice % len(self.flying)])
            case "postpone" if self.flying:
                delivery = self.flying.pop(list(self.flying)[choice % len(self.flying)])
                until = self.now + choice
                later = replace(delivery, next_attempt_time=round(until * SECOND))
                self.pending[delivery.delivery_id] = later
                self.queue.postpone(later, until)
            case "land":
                self.flying.clear()
                self.queue.land()
            case _:
                self._fill()

    def finish_everything(self) -> None:
        for _ in range(20 * (len(self.pending) + 1)):
            self.now += 1.0
            self.queue.look_again()
            self._take()
            if self.queue.needs_filling:
                self._fill()
            for delivery_id in list(self.flying):
                self._finish(delivery_id)

    def _take(self) -> None:
        delivery = self.queue.take(self.now)
        if delivery is not None:
            assert delivery.delivery_id not in self.flying
            assert delivery.conversation_id not in {one.conversation_id for one in self.flying.values()}
            earlier = [one for one in self.pending.values() if one.conversation_id == delivery.conversation_id]
            assert delivery.sequence == min(one.sequence for one in earlier)
            self.flying[delivery.delivery_id] = delivery
            assert len(self.flying) <= self.queue.credit

    def _finish(self, delivery_id: str) -> None:
        delivery = self.flying.pop(delivery_id)
        del self.pending[delivery_id]
        self.ended.setdefault(delivery.conversation_id, []).append(delivery.sequence)
        self.queue.finish(delivery_id)

    def _fill(self) -> None:
        complete = len(self.pending) <= self.capacity
        rows = sorted(self.pending.values(), key=lambda one: (one.conversation_id, one.sequence))
        if not complete:
            heads: dict[str, Delivery] = {}
            for one in rows:
                heads.setdefault(one.conversation_id, one)
            rows = [one for one in heads.values() if one.next_attempt_time <= self.now * SECOND][:2]
        self.queue.begin_filling()
        self.queue.fill(rows, complete=complete, now=self.now, wall=round(self.now * SECOND))
