"""Who goes next."""

from portway.server.runs.pending import QueuedRun
from portway.server.runs.queue import RunQueue
from portway.server.runs.types import Fence


def a_run(number: int, *, workspace: str = "w", conversation: str = "c", available: int = 0) -> QueuedRun:
    fence = Fence(workspace, f"run-{workspace}-{number}", 0, 0)
    return QueuedRun(fence, f"evt-{number}", number, conversation, "assistant", available_time=available)


def drained(queue: RunQueue, now: int = 0) -> list[int]:
    """The order in which runs go when each ends before the next one is taken."""
    order: list[int] = []
    while (run := queue.take(now)) is not None:
        order.append(run.event_sequence)
        queue.done(run, now)
    return order


def test_runs_of_a_conversation_go_by_their_events_however_they_come() -> None:
    queue = RunQueue()
    for number in (3, 1, 2):
        queue.put(a_run(number), 0)
    assert drained(queue) == [1, 2, 3]


def test_a_conversation_has_one_run_at_a_time() -> None:
    queue = RunQueue()
    queue.put(a_run(1), 0)
    queue.put(a_run(2), 0)
    first = queue.take(0)
    assert first is not None and queue.take(0) is None and queue.is_busy(("w", "c"))
    queue.done(first, 0)
    second = queue.take(0)
    assert second is not None
    queue.done(second, 0)
    assert not queue.is_busy(("w", "c"))


def test_a_noisy_conversation_does_not_keep_another_one_waiting() -> None:
    queue = RunQueue()
    for number in range(1, 100):
        queue.put(a_run(number, conversation="noisy"), 0)
    queue.put(a_run(100, conversation="quiet"), 0)
    assert drained(queue).index(100) == 1


def test_a_noisy_workspace_does_not_keep_another_one_waiting() -> None:
    queue = RunQueue()
    for number in range(1, 100):
        queue.put(a_run(number, workspace="noisy", conversation=f"c{number}"), 0)
    queue.put(a_run(100, workspace="quiet"), 0)
    taken = [queue.take(0) for _ in range(3)]
    # The one with the fewest executing runs is next, so the quiet one comes with the second place at the latest.
    assert "quiet" in [run.fence.workspace_id for run in taken[:2] if run]


def test_places_are_shared_evenly_between_workspaces_whose_runs_are_long() -> None:
    queue = RunQueue()
    for workspace in ("a", "b", "c"):
        for number in range(1, 50):
            queue.put(a_run(number, workspace=workspace, conversation=f"c{number}"), 0)
    taken = [run.fence.workspace_id for _ in range(30) if (run := queue.take(0))]
    assert {workspace: taken.count(workspace) for workspace in "abc"} == {"a": 10, "b": 10, "c": 10}


def test_a_run_that_waits_for_its_time_holds_its_conversation_and_no_other() -> None:
    queue = RunQueue()
    queue.put(a_run(1, available=500), 0)
    queue.put(a_run(2), 0)
    queue.put(a_run(3, conversation="other"), 0)
    assert drained(queue) == [3] and queue.next_time() == 500
    assert drained(queue, now=500) == [1, 2] and queue.next_time() is None


def test_a_run_that_is_taken_out_makes_room_for_the_next_one() -> None:
    queue = RunQueue()
    for number in (1, 2, 3):
        queue.put(a_run(number), 0)
    queue.put(a_run(4, conversation="other"), 0)
    assert queue.remove(a_run(1).key, 0) is not None
    assert queue.remove(a_run(1).key, 0) is None
    assert queue.remove(a_run(4).key, 0) is not None
    assert drained(queue) == [2, 3]
    assert queue.waiting_count == queue.active_count == 0
