"""A run that is watched: provisional and committed events joined without loss or repeat."""

from hypothesis import given
from hypothesis import strategies as st

from portway.adapters.kit.live import Applied, LiveRun, TextBlock, ToolBlock
from portway.adapters.kit.live_types import (
    AttemptReset,
    Change,
    Chunk,
    ChunkKind,
    LiveEvent,
    MessageDone,
    RunEnded,
    StateNews,
    ToolBegun,
    ToolEnded,
)


def chunk(offset: int, text: str, *, key: str = "m", kind: ChunkKind = ChunkKind.TEXT) -> Chunk:
    return Chunk(key, kind, offset, text)


def committed(sequence: int, change: Change | None, attempt: int = 1) -> LiveEvent:
    return LiveEvent(sequence, attempt, change)


def provisional(change: Change, attempt: int = 1) -> LiveEvent:
    return LiveEvent(0, attempt, change)


def texts(run: LiveRun) -> list[str]:
    return [block.text for block in run.blocks if isinstance(block, TextBlock)]


def test_committed_text_repeats_nothing_of_the_provisional_text() -> None:
    run = LiveRun("run_1", "c")
    run.apply(provisional(chunk(0, "Hello ")))
    run.apply(provisional(chunk(6, "wor")))
    assert run.apply(committed(1, chunk(0, "Hello wo"))) is Applied.NOTHING
    run.apply(committed(2, chunk(8, "rld!")))
    assert texts(run) == ["Hello world!"]


def test_provisional_text_whose_beginning_was_missed_waits_for_the_committed() -> None:
    run = LiveRun("run_1", "c")
    assert run.apply(provisional(chunk(10, "late"))) is Applied.NOTHING
    run.apply(committed(1, chunk(0, "0123456789la")))
    run.apply(provisional(chunk(10, "late")))
    assert texts(run) == ["0123456789late"]


def test_offsets_count_code_points_and_kinds_apart() -> None:
    run = LiveRun("run_1", "c")
    run.apply(provisional(chunk(0, "👍👍", kind=ChunkKind.REASONING)))
    run.apply(provisional(chunk(0, "你好")))
    run.apply(provisional(chunk(2, "👍", kind=ChunkKind.REASONING)))
    run.apply(provisional(chunk(2, "!")))
    assert texts(run) == ["👍👍👍", "你好!"]


def test_a_committed_event_twice_counts_once_and_a_missing_one_is_noticed() -> None:
    run = LiveRun("run_1", "c")
    assert run.apply(committed(1, StateNews("running"))) is Applied.CHANGED
    assert run.apply(committed(1, StateNews("queued"))) is Applied.NOTHING
    assert run.apply(committed(3, StateNews("waiting"))) is Applied.GAP
    assert (run.state, run.sequence) == ("running", 1)


def test_a_new_attempt_drops_what_was_not_finished_and_keeps_what_was_said() -> None:
    run = LiveRun("run_1", "c")
    run.apply(committed(1, MessageDone("a", "msg_1", "first")))
    run.apply(committed(2, ToolBegun("t1", "exec", "{}")))
    run.apply(provisional(chunk(0, "half of the sec", key="b")))
    run.apply(committed(3, AttemptReset(2), attempt=2))
    run.apply(provisional(chunk(15, "old", key="b"), attempt=1))
    run.apply(provisional(chunk(0, "second", key="b"), attempt=2))
    tools = [block for block in run.blocks if isinstance(block, ToolBlock)]
    assert texts(run) == ["first", "second"]
    assert [(tool.running, tool.error) for tool in tools] == [(False, "interrupted")]


def test_text_of_a_new_attempt_that_overtakes_the_reset_is_not_glued_to_the_old() -> None:
    run = LiveRun("run_1", "c")
    run.apply(committed(1, chunk(0, "old text")))
    run.apply(provisional(chunk(0, "new"), attempt=2))
    run.apply(committed(2, AttemptReset(2), attempt=2))
    run.apply(provisional(chunk(3, "er"), attempt=2))
    assert texts(run) == ["newer"]


def test_a_tool_call_that_comes_again_is_one_call() -> None:
    run = LiveRun("run_1", "c")
    run.apply(committed(1, ToolBegun("t", "exec", "{}")))
    run.apply(committed(2, AttemptReset(2), attempt=2))
    run.apply(committed(3, ToolBegun("t", "exec", "{}"), attempt=2))
    run.apply(committed(4, ToolEnded("t", "exec", "out", "", 0.5), attempt=2))
    assert [(block.running, block.output) for block in run.blocks if isinstance(block, ToolBlock)] == [(False, "out")]


def test_the_whole_message_replaces_its_chunks_and_the_last_one_counts_once() -> None:
    run = LiveRun("run_1", "c")
    run.apply(provisional(chunk(0, "draft of it")))
    done = MessageDone("m", "msg_1", "the message")
    run.apply(committed(1, done))
    run.apply(committed(2, RunEnded("completed", last=done)))
    run.apply(provisional(chunk(11, "after the end")))
    assert texts(run) == ["the message"]
    assert run.ended is not None


@given(st.data())
def test_however_frames_are_lost_doubled_and_mixed_the_text_is_right(data: st.DataObject) -> None:
    text = data.draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(text) - 1, 1)), max_size=4)) | {len(text)})
    pieces = list(zip([0, *cuts], cuts, strict=False))
    run = LiveRun("run_1", "c")
    for sequence, (begin, end) in enumerate(pieces, 1):
        for _ in range(data.draw(st.integers(0, 3))):
            start = data.draw(st.integers(0, end))
            stop = data.draw(st.integers(start, end))
            run.apply(provisional(chunk(start, text[start:stop])))
        assert text.startswith("".join(texts(run)))
        for _ in range(data.draw(st.integers(1, 2))):
            run.apply(committed(sequence, chunk(begin, text[begin:end])))
        assert "".join(texts(run)) == text[: max(end, len("".join(texts(run))))]
    assert "".join(texts(run)) == text
