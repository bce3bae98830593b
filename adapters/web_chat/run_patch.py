"""Live text for one page: what it has not seen of a run, however much that has become."""

from dataclasses import dataclass

from portway.adapters.kit.live import Block, LiveRun, TextBlock
from portway.adapters.web_chat.frames import Json, file_json


@dataclass(slots=True)
class Seen:
    """How far one page has seen a run: a position in the shared run, so that a slow page costs no memory."""

    generation: int = -1
    revision: int = -1
    lengths: list[int] | None = None


def patch(run: LiveRun, seen: Seen) -> Json | None:
    """The frame that brings the page up to date, and `seen` with it; None where there is nothing new."""
    if seen.generation == run.generation and seen.revision == run.revision:
        return None
    fresh = seen.generation != run.generation or seen.lengths is None
    lengths = [] if fresh or seen.lengths is None else seen.lengths
    blocks: list[Json] = []
    for index, block in enumerate(run.blocks):
        if index >= len(lengths):
            blocks.append({"i": index, **_whole(block)})
            lengths.append(_length(block))
        elif block.revision > seen.revision:
            blocks.append({"i": index, **_changed(block, lengths[index])})
            lengths[index] = _length(block)
    seen.generation, seen.revision, seen.lengths = run.generation, run.revision, lengths
    return {"t": "run", "c": run.conversation_id, "run": run.run_id, "fresh": fresh, "blocks": blocks, **_facts(run)}


def blocks_json(run: LiveRun) -> list[Json]:
    """All blocks of a run, for steps that are looked at afterwards."""
    return [_whole(block) for block in run.blocks]


def _facts(run: LiveRun) -> Json:
    facts: Json = {"state": run.state, "attempt": run.attempt, "progress": run.progress}
    facts["files"] = [file_json(one) for one in run.files]
    if run.notice is not None:
        facts["notice"] = {"code": run.notice.code, "text": run.notice.text}
    if run.ended is not None:
        facts["ended"] = {"state": run.ended.state, "code": run.ended.code, "message": run.ended.message}
    return facts


def _whole(block: Block) -> Json:
    if isinstance(block, TextBlock):
        return {"type": block.kind.value, "key": block.key, "text": block.text, "item": block.item_id}
    return {
        "type": "tool",
        "call": block.call_id,
        "tool": block.tool,
        "args": block.arguments,
        "running": block.running,
        "output": block.output,
        "error": block.error,
        "seconds": block.seconds,
    }


def _changed(block: Block, seen: int) -> Json:
    if isinstance(block, TextBlock):
        return {"append": _tail(block, seen), "item": block.item_id}
    return _whole(block)


def _length(block: Block) -> int:
    return block.length if isinstance(block, TextBlock) else 0


def _tail(block: TextBlock, seen: int) -> str:
    """The text after `seen` code points; found from the end, where the news are."""
    missing = block.length - seen
    parts: list[str] = []
    for chunk in reversed(block.chunks):
        if missing <= 0:
            break
        parts.append(chunk[-missing:] if len(chunk) > missing else chunk)
        missing -= len(chunk)
    return "".join(reversed(parts))
