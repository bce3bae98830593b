"""Provisional and committed events join without loss or repeat, wherever a watcher comes in."""

from hypothesis import given
from hypothesis import strategies as st

from portway.clients.run_view import MessageDone, RunEnded, RunView, TextAdded, TextDropped
from portway.v1 import content_pb2, run_pb2, run_result_pb2


def delta(text: str, offset: int, sequence: int = 0, attempt: int = 1) -> run_pb2.RunEvent:
    said = run_result_pb2.MessageDelta(message_key="m", text=text)
    return run_pb2.RunEvent(sequence=sequence, attempt=attempt, text_offset=offset, message_delta=said)


def completed(text: str, sequence: int) -> run_pb2.RunEvent:
    parts = [content_pb2.ContentPart(text=content_pb2.TextPart(text=text))]
    done = run_result_pb2.MessageCompleted(message_key="m", message=content_pb2.Message(parts=parts))
    return run_pb2.RunEvent(sequence=sequence, attempt=1, message_completed=done)


def shown(view: RunView, *events: run_pb2.RunEvent) -> str:
    changes = [change for event in events for change in view.apply(event)]
    return "".join(change.text for change in changes if isinstance(change, TextAdded))


def test_committed_text_that_was_seen_provisionally_is_not_shown_again() -> None:
    assert shown(RunView(), delta("你", 0), delta("好!", 1), delta("你好!", 0, sequence=1), delta("?", 3)) == "你好!?"


def test_an_event_that_is_replayed_changes_nothing() -> None:
    view = RunView()
    shown(view, delta("a", 0, sequence=1))
    assert list(view.apply(delta("a", 0, sequence=1))) == []
    assert list(view.apply(run_pb2.RunEvent(sequence=2, run_completed=run_result_pb2.RunCompleted()))) == [
        RunEnded(None)
    ]
    assert view.ended


def test_a_new_attempt_drops_what_was_provisional_and_late_text_of_the_old_one() -> None:
    view = RunView()
    shown(view, delta("old", 0))
    reset = run_pb2.RunEvent(sequence=1, attempt=2, reset=run_pb2.RunReset(attempt=2, reason="restarted"))
    assert list(view.apply(reset)) == [TextDropped(2, "restarted")]
    assert list(view.apply(delta("late", 3, attempt=1))) == []
    assert shown(view, delta("new", 0, attempt=2)) == "new"


def test_the_whole_message_comes_with_its_text() -> None:
    view = RunView()
    shown(view, delta("He", 0))
    (change,) = view.apply(completed("Hello", 1))
    assert isinstance(change, MessageDone)
    assert change.text == "Hello"


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=12), st.data())
def test_any_mixture_of_provisional_and_committed_chunks_shows_the_text_once(
    chunks: list[str], data: st.DataObject
) -> None:
    whole = "".join(chunks)
    offsets = [sum(map(len, chunks[:index])) for index in range(len(chunks))]
    # Committed chunks cover the same text in pieces of their own; each comes after the provisional text it covers.
    cuts = sorted(data.draw(st.sets(st.integers(1, len(chunks)), max_size=4)) | {len(chunks)})
    events, begun = [], 0
    for sequence, cut in enumerate(cuts, start=1):
        lost = data.draw(st.booleans())
        if not lost:
            events += [delta(chunks[index], offsets[index]) for index in range(begun, cut)]
        events.append(delta("".join(chunks[begun:cut]), offsets[begun], sequence=sequence))
        begun = cut
    assert shown(RunView(), *events) == whole
