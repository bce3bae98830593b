"""Events on their way to the host, and runs that are followed: bounded, and neither lost nor doubled."""

import asyncio

import pytest

from portway.adapters.kit.follow import MAX_RUNS, Follower
from portway.adapters.kit.live_types import LiveEvent, LiveUpdate, RunEnded, StateNews
from portway.adapters.kit.outbox import EventOutbox
from portway.adapters.kit.types import Accepted
from portway.rpc.errors import Conflict, LimitExceeded, PayloadTooLarge, Unavailable
from portway.v1 import event_pb2

ACCEPTED = Accepted("evt_1", "run_1", "c", "msg_1", False)


def submit(key: str, source: str = "s") -> event_pb2.SubmitEventRequest:
    return event_pb2.SubmitEventRequest(event=event_pb2.Event(source=source), idempotency_key=key)


async def test_events_go_out_in_order_and_again_after_a_break_until_they_are_answered() -> None:
    outbox = EventOutbox()
    answers = [outbox.add(submit(f"k{number}")) for number in range(3)]
    first = [frame.event for frame in outbox.frames()]
    assert [event.submit.idempotency_key for event in first] == ["k0", "k1", "k2"]
    assert list(outbox.frames()) == []
    outbox.accepted(first[1].ref, ACCEPTED)
    outbox.rewind()
    assert [frame.event for frame in outbox.frames()] == [first[0], first[2]]
    assert [answer.done() for answer in answers] == [False, True, False]
    assert await answers[1] == ACCEPTED


async def test_the_same_event_waits_for_the_same_answer_and_another_under_its_key_is_refused() -> None:
    outbox = EventOutbox()
    answer = outbox.add(submit("k"))
    assert outbox.add(submit("k")) is answer
    with pytest.raises(Conflict):
        outbox.add(submit("k", source="other"))
    assert len(list(outbox.frames())) == 1


async def test_what_does_not_fit_is_refused_to_whoever_submits_it() -> None:
    outbox = EventOutbox(max_events=2, max_bytes=10_000)
    outbox.add(submit("a"))
    with pytest.raises(LimitExceeded):
        outbox.add(submit("large", source="x" * 20_000))
    outbox.add(submit("b"))
    with pytest.raises(LimitExceeded) as refused:
        outbox.add(submit("c"))
    assert refused.value.retry_after is not None
    with pytest.raises(PayloadTooLarge):
        EventOutbox().add(submit("huge", source="x" * 4_000_000))


async def test_an_answer_that_nobody_waits_for_any_more_is_no_error() -> None:
    outbox = EventOutbox()
    answer = outbox.add(submit("k"))
    (frame,) = outbox.frames()
    outbox.refused(frame.event.ref, Unavailable("later"))
    outbox.refused(frame.event.ref, Unavailable("twice"))
    outbox.accepted(99, ACCEPTED)
    assert isinstance(answer.exception(), Unavailable)
    assert len(outbox) == 0
    await asyncio.sleep(0)


class Asked:
    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.follower = Follower(lambda run_id, after: self.calls.append((run_id, after)))

    def hear(self, *sequences: int, run: str = "r", end: bool = False) -> list[int]:
        changes = [StateNews("running")] * len(sequences)
        events = [LiveEvent(sequence, 1, change) for sequence, change in zip(sequences, changes, strict=True)]
        if end:
            events[-1] = LiveEvent(sequences[-1], 1, RunEnded("completed"))
        return [event.sequence for event in self.follower.heard(LiveUpdate(run, "c", tuple(events))).events]


def test_committed_events_pass_once_and_in_order_and_provisional_ones_between_them() -> None:
    asked = Asked()
    assert asked.hear(1, 0, 2) == [1, 0, 2]
    assert asked.hear(1, 2, 0, 3) == [0, 3]
    assert list(asked.follower) == [("r", 3)]
    assert asked.calls == []


def test_a_gap_is_asked_for_once_and_filled() -> None:
    asked = Asked()
    asked.hear(1)
    assert asked.hear(4) == []
    assert asked.hear(5) == []
    assert asked.calls == [("r", 1)]
    assert asked.hear(2, 3, 4, 5) == [2, 3, 4, 5]


def test_a_run_that_ended_is_followed_no_longer() -> None:
    asked = Asked()
    asked.follower.expect("r", unasked=True)
    asked.hear(1, 2, end=True)
    assert list(asked.follower) == []
    asked.follower.expect("other", unasked=False)
    assert asked.calls == [("other", 0)]


def test_only_so_many_runs_are_followed() -> None:
    asked = Asked()
    for number in range(MAX_RUNS + 10):
        asked.follower.expect(f"run-{number}", unasked=True)
    followed = dict(asked.follower)
    assert len(followed) == MAX_RUNS
    assert "run-0" not in followed
