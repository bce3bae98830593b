"""Where the transcript is kept."""

from collections.abc import Sequence
from typing import Protocol

from portway.rpc.errors import NotFound
from portway.server.storage_engine.reader import Reader
from portway.server.storage_engine.rows import columns, typed, values
from portway.server.storage_engine.transaction import Params, ReadTransaction, Row, Transaction
from portway.server.transcript.derived import forget_summaries
from portway.server.transcript.search import Placement, copy_index, forget_text, index_text, search_rows
from portway.server.transcript.types import NewItem, Order, PageQuery, Role, SearchQuery, TranscriptItem

COLUMNS = columns(TranscriptItem)
_ADVANCE = """
UPDATE conversations SET last_sequence = last_sequence + :count, last_active_time = :now
WHERE workspace_id = :workspace_id AND conversation_id = :conversation_id RETURNING last_sequence
"""
_FIELDS = (*columns(NewItem).split(", "), "workspace_id", "conversation_id", "sequence")
_INSERT = f"""
INSERT INTO transcript ({", ".join(_FIELDS)}) VALUES ({", ".join(f":{name}" for name in _FIELDS)}) RETURNING item_number
"""
_COPIED = columns(TranscriptItem, "conversation_id", "sequence", "item_id")
_COPY = f"""
INSERT INTO transcript (workspace_id, conversation_id, sequence, item_id, {_COPIED})
SELECT workspace_id, :target_id, sequence - :after, 'msg_' || :target_id || '_' || (sequence - :after), {_COPIED}
FROM transcript
WHERE workspace_id = :workspace_id AND conversation_id = :source_id AND sequence > :after AND sequence <= :until
ORDER BY sequence
"""
_COUNT_COPIED = """
UPDATE conversations SET last_sequence = :count
WHERE workspace_id = :workspace_id AND conversation_id = :target_id
"""
_IS_EMPTY = """
SELECT 1 FROM conversations
WHERE workspace_id = :workspace_id AND conversation_id = :target_id AND last_sequence = 0
"""
_IN_CONVERSATION = "workspace_id = :workspace_id AND conversation_id = :conversation_id"
_THREAD = "(:thread_id = '' OR thread_id = :thread_id)"
_BACKWARD = f"""
SELECT {COLUMNS} FROM transcript WHERE {_IN_CONVERSATION} AND sequence < :cursor AND {_THREAD}
ORDER BY sequence DESC LIMIT :limit
"""
_FORWARD = f"""
SELECT {COLUMNS} FROM transcript WHERE {_IN_CONVERSATION} AND sequence > :cursor AND {_THREAD}
ORDER BY sequence LIMIT :limit
"""
_BY_ID = f"SELECT {COLUMNS} FROM transcript WHERE workspace_id = :workspace_id AND item_id = :item_id"
_REPLACE = """
UPDATE transcript SET text = :text, content = :content, edit_time = :edit_time, redact_time = :redact_time
WHERE workspace_id = :workspace_id AND item_id = :item_id
RETURNING item_number, conversation_id, role, kind, create_time
"""

COPY_LIMIT = 10_000


class Transcript(Protocol):
    """What can be asked of the transcript."""

    async def page(self, workspace_id: str, query: PageQuery) -> list[TranscriptItem]:
        """Items next to the cursor, nearest first."""

    async def search(self, workspace_id: str, query: SearchQuery) -> list[TranscriptItem]:
        """Items that hold every word of the query, newest first."""

    async def item(self, workspace_id: str, item_id: str) -> TranscriptItem:
        """Raises NotFound."""


def append_items(tx: Transaction, workspace_id: str, conversation_id: str, items: Sequence[NewItem]) -> int:
    """Append items to a conversation, in order; answers the sequence of the last.

    Raises NotFound without the conversation.
    """
    params: Params = {
        "workspace_id": workspace_id,
        "conversation_id": conversation_id,
        "count": len(items),
        "now": tx.now,
    }
    row = tx.one(_ADVANCE, params)
    if row is None:
        raise NotFound.of("conversation", conversation_id)
    last = int(row[0])
    for sequence, item in enumerate(items, last - len(items) + 1):
        columns_of_item = values(
            item,
            workspace_id=workspace_id,
            conversation_id=conversation_id,
            sequence=sequence,
            create_time=item.create_time or tx.now,
        )
        inserted = tx.one(_INSERT, columns_of_item)
        if inserted is not None and item.text:
            index_text(tx, inserted[0], Placement(workspace_id, conversation_id, item.role, item.kind), item.text)
    return last


def copy_items(tx: Transaction, workspace_id: str, source_id: str, target_id: str, until: int) -> int:
    """Copy a conversation's items up to sequence `until` into a new one, with ids of their own; answers how many.

    At most COPY_LIMIT, the newest of them, because nobody else writes meanwhile. Raises NotFound without an empty
    target.
    """
    params: Params = {
        "workspace_id": workspace_id,
        "source_id": source_id,
        "target_id": target_id,
        "after": max(0, until - COPY_LIMIT),
        "until": until,
    }
    if tx.one(_IS_EMPTY, params) is None:
        raise NotFound.of("empty conversation", target_id)
    count = tx.execute(_COPY, params)
    tx.execute(_COUNT_COPIED, {**params, "count": count})
    copy_index(tx, workspace_id, target_id)
    return count


def replace_item(tx: Transaction, workspace_id: str, item_id: str, text: str, content: bytes) -> None:
    """An edited message: the item keeps its place. Raises NotFound."""
    _replace(tx, workspace_id, item_id, text, content, edit_time=tx.now, redact_time=0)


def redact_item(tx: Transaction, workspace_id: str, item_id: str) -> None:
    """A recalled or erased message: the item keeps its place and loses its content. Raises NotFound."""
    _replace(tx, workspace_id, item_id, "", b"", edit_time=0, redact_time=tx.now)


def _replace(
    tx: Transaction, workspace_id: str, item_id: str, text: str, content: bytes, *, edit_time: int, redact_time: int
) -> None:
    row = tx.one(
        _REPLACE,
        {
            "workspace_id": workspace_id,
            "item_id": item_id,
            "text": text,
            "content": content,
            "edit_time": edit_time,
            "redact_time": redact_time,
        },
    )
    if row is None:
        raise NotFound.of("message", item_id)
    number, conversation_id, role, kind, create_time = row
    forget_text(tx, number)
    forget_summaries(tx, workspace_id, conversation_id, create_time)
    if text:
        index_text(tx, number, Placement(workspace_id, conversation_id, role, kind), text)


def read_page(tx: ReadTransaction, workspace_id: str, query: PageQuery) -> list[TranscriptItem]:
    """Items next to the cursor, nearest first."""
    params: Params = {
        "workspace_id": workspace_id,
        "conversation_id": query.conversation_id,
        "cursor": query.cursor,
        "limit": query.limit,
        "thread_id": query.thread_id,
    }
    sql = _BACKWARD if query.order == Order.BACKWARD else _FORWARD
    return [_item(row) for row in tx.all(sql, params)]


def _item(row: Row) -> TranscriptItem:
    return TranscriptItem(*typed(row, (3, Role)))


def read_item(tx: ReadTransaction, workspace_id: str, item_id: str) -> TranscriptItem:
    """Raises NotFound."""
    row = tx.one(_BY_ID, {"workspace_id": workspace_id, "item_id": item_id})
    if row is None:
        raise NotFound.of("message", item_id)
    return _item(row)


class StoredTranscript:
    """The transcript in the database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(self, workspace_id: str, query: PageQuery) -> list[TranscriptItem]:
        return await self._reader.look(lambda tx: read_page(tx, workspace_id, query))

    async def search(self, workspace_id: str, query: SearchQuery) -> list[TranscriptItem]:
        rows = await self._reader.run(lambda tx: search_rows(tx, workspace_id, query, COLUMNS))
        return [_item(row) for row in rows]

    async def item(self, workspace_id: str, item_id: str) -> TranscriptItem:
        return await self._reader.look(lambda tx: read_item(tx, workspace_id, item_id))
