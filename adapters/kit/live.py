"""A run as a person sees it while it goes on: provisional and committed events joined without loss or repeat."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from portway.adapters.kit.live_types import (
    AttemptReset,
    Change,
    Chunk,
    ChunkKind,
    FileMade,
    LiveEvent,
    MessageDone,
    NoticeTold,
    ProgressLine,
    RunEnded,
    StateNews,
    ToolBegun,
    ToolEnded,
)
from portway.adapters.kit.types import Attachment

MAX_TEXT = 2 * 1024 * 1024
MAX_BLOCKS = 1000


class Applied(StrEnum):
    """What an event did: changed what is shown, changed nothing, or came too early because others are missing."""

    CHANGED = "changed"
    NOTHING = "nothing"
    GAP = "gap"


@dataclass(slots=True)
class TextBlock:
    """Text that is being written, or reasoning. `item_id` is set once the whole message is in the transcript."""

    key: str
    kind: ChunkKind
    attempt: int
    chunks: list[str] = field(default_factory=list)
    length: int = 0
    item_id: str = ""
    revision: int = 0

    @property
    def text(self) -> str:
        return "".join(self.chunks)


@dataclass(slots=True)
class ToolBlock:
    """A tool call. While it runs, `output` is empty."""

    call_id: str
    tool: str
    arguments: str
    attempt: int
    running: bool = True
    output: str = ""
    error: str = ""
    seconds: float = 0.0
    revision: int = 0


Block = TextBlock | ToolBlock


class LiveRun:
    """The state of one run. Memory is bounded: past the limits, what is written is dropped and comes with the whole
    message.

    Every change raises `revision` and marks the block; `generation` changes when the list of blocks was cut, so that
    whoever follows begins again.
    """

    def __init__(self, run_id: str, conversation_id: str) -> None:
        self.run_id = run_id
        self.conversation_id = conversation_id
        self.state = "queued"
        self.attempt = 0
        self.sequence = 0
        self.revision = 0
        self.generation = 0
        self.blocks: list[Block] = []
        self.files: list[Attachment] = []
        self.progress = ""
        self.notice: NoticeTold | None = None
        self.ended: RunEnded | None = None
        self.text_size = 0

    def apply(self, event: LiveEvent) -> Applied:
        """Takes an event into account: committed ones exactly once and in order, provisional ones while they fit."""
        if event.sequence:
            if event.sequence <= self.sequence:
                return Applied.NOTHING
            if event.sequence > self.sequence + 1:
                return Applied.GAP
            self.sequence = event.sequence
        elif event.attempt < self.attempt or self.ended is not None:
            return Applied.NOTHING
        if event.attempt > self.attempt and not isinstance(event.change, AttemptReset):
            # The reset may still be on its way to the ledger; what the older attempt had not finished is void anyway.
            self._begin_attempt(event.attempt)
        if event.change is None:
            return Applied.NOTHING
        return self._apply(event.change)

    def _apply(self, change: Change) -> Applied:
        match change:
            case Chunk():
                return self._write(change)
            case MessageDone():
                self._finish_message(change)
            case ToolBegun() | ToolEnded():
                self._note_tool(change)
            case FileMade():
                self.files.append(change.attachment)
            case ProgressLine():
                self.progress = change.text
            case StateNews():
                self.state = change.state
            case AttemptReset():
                self._begin_attempt(change.attempt)
            case NoticeTold():
                self.notice = change
            case RunEnded():
                self._end(change)
        self.revision += 1
        return Applied.CHANGED

    def _begin_attempt(self, attempt: int) -> None:
        if attempt <= self.attempt:
            return
        if self.attempt:
            self._drop_unfinished()
        self.attempt = attempt

    def _drop_unfinished(self) -> None:
        """Messages that are in the transcript and calls that ended stay; a call that was cut off says so."""
        kept: list[Block] = []
        for block in self.blocks:
            if isinstance(block, ToolBlock):
                if block.running:
                    block.running, block.error = False, "interrupted"
                kept.append(block)
            elif block.item_id:
                kept.append(block)
        self.blocks = kept
        self.files.clear()
        self.progress = ""
        self.generation += 1
        self.revision += 1

    def _write(self, chunk: Chunk) -> Applied:
        block = self._text_block(chunk.key, chunk.kind)
        have = block.length if block is not None else 0
        if chunk.offset > have:
            # Provisional text whose beginning was missed: the committed text will fill it.
            return Applied.NOTHING
        if block is not None and block.item_id:
            return Applied.NOTHING
        new = chunk.text[have - chunk.offset :]
        if not new or self.text_size + len(new) > MAX_TEXT:
            return Applied.NOTHING
        if block is None:
            block = TextBlock(chunk.key, chunk.kind, self.attempt)
            if not self._append(block):
                return Applied.NOTHING
        block.chunks.append(new)
        block.length += len(new)
        self.text_size += len(new)
        self._touch(block)
        return Applied.CHANGED

    def _finish_message(self, done: MessageDone) -> None:
        block = self._text_block(done.key, ChunkKind.TEXT) if done.key else None
        if block is None or block.item_id:
            block = TextBlock(done.key, ChunkKind.TEXT, self.attempt)
            if not self._append(block):
                return
        elif block.text != done.text:
            self.generation += 1
        self.text_size += len(done.text) - block.length
        block.chunks = [done.text] if done.text else []
        block.length = len(done.text)
        block.item_id = done.item_id
        self._touch(block)

    def _note_tool(self, change: ToolBegun | ToolEnded) -> None:
        block = next((one for one in self._tools() if one.call_id == change.call_id), None)
        if isinstance(change, ToolBegun):
            if block is None:
                block = ToolBlock(change.call_id, change.tool, change.arguments, self.attempt)
                if not self._append(block):
                    return
            else:
                # The same call again, by a later attempt.
                block.running, block.error, block.attempt = True, "", self.attempt
        else:
            if block is None:
                block = ToolBlock(change.call_id, change.tool, "", self.attempt)
                if not self._append(block):
                    return
            block.running, block.output, block.error = False, change.output, change.error
            block.seconds = change.seconds
        self._touch(block)

    def _end(self, ended: RunEnded) -> None:
        if ended.last is not None and all(block.item_id != ended.last.item_id for block in self._texts()):
            self._finish_message(ended.last)
        for tool in self._tools():
            if tool.running:
                tool.running, tool.error = False, "interrupted"
                self._touch(tool)
        self.ended = ended
        self.state = ended.state

    def _append(self, block: Block) -> bool:
        if len(self.blocks) >= MAX_BLOCKS:
            return False
        self.blocks.append(block)
        return True

    def _touch(self, block: Block) -> None:
        self.revision += 1
        block.revision = self.revision

    def _text_block(self, key: str, kind: ChunkKind) -> TextBlock | None:
        for block in reversed(self.blocks):
            if isinstance(block, TextBlock) and block.key == key and block.kind is kind:
                return block if block.attempt == self.attempt else None
        return None

    def _texts(self) -> Iterator[TextBlock]:
        return (block for block in self.blocks if isinstance(block, TextBlock))

    def _tools(self) -> Iterator[ToolBlock]:
        return (block for block in self.blocks if isinstance(block, ToolBlock))
