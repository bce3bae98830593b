"""A knowledge engine: an SQLite file for each knowledge base, with full-text search by BM25."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from chunks import chunks_of
from words import indexed, searched

from portway.rpc.errors import Conflict, InvalidInput, NotFound
from portway.runtime.sdk import (
    ComponentCall,
    IncomingDocument,
    IndexedDocument,
    IndexState,
    KnowledgeEngine,
    KnowledgeHit,
    Question,
)

CHUNK_CHARACTERS = 1_200
BUSY_SECONDS = 30.0
_TABLES = """
CREATE TABLE about (settings TEXT NOT NULL);
CREATE TABLE documents (id TEXT PRIMARY KEY, name TEXT, sha256 TEXT, metadata TEXT, chunks INTEGER) WITHOUT ROWID;
CREATE TABLE chunks (number INTEGER PRIMARY KEY, document TEXT, place INTEGER, text TEXT, about TEXT);
CREATE INDEX chunks_by_document ON chunks (document, place);
CREATE VIRTUAL TABLE words USING fts5 (text, content='');
"""
_FIND = """
SELECT chunks.document, chunks.place, chunks.text, chunks.about, documents.metadata, -bm25(words)
FROM words JOIN chunks ON chunks.number = words.rowid JOIN documents ON documents.id = chunks.document
WHERE words MATCH ? ORDER BY bm25(words), chunks.number
"""

T = TypeVar("T")


class KeywordEngine(KnowledgeEngine):
    """Each call opens the file of its knowledge base; SQLite lets one of them write at a time."""

    async def create(self, knowledge_base_id: str, settings: Mapping[str, Any], call: ComponentCall) -> None:
        size = settings.get("chunk_characters", CHUNK_CHARACTERS)
        if unknown := sorted(settings.keys() - {"chunk_characters"}):
            raise InvalidInput.field(f"settings.{unknown[0]}", "is no setting of this engine")
        if not isinstance(size, int) or not 200 <= size <= 20_000:
            raise InvalidInput.field("settings.chunk_characters", "must be a whole number from 200 to 20000")
        await asyncio.to_thread(_create, _file(call, knowledge_base_id), {"chunk_characters": size})

    async def delete(self, knowledge_base_id: str, call: ComponentCall) -> None:
        await asyncio.to_thread(_delete, _file(call, knowledge_base_id))

    async def describe(self, knowledge_base_id: str, after: str, limit: int, call: ComponentCall) -> IndexState:
        return await self._with(knowledge_base_id, call, lambda index: _describe(index, after, limit))

    async def ingest(self, knowledge_base_id: str, document: IncomingDocument, call: ComponentCall) -> int:
        head = document.head
        size: int = await self._with(knowledge_base_id, call, _chunk_characters)
        chunks: list[tuple[str, str]] = []
        async for section in document.sections():
            about = {"name": head.name, "headings": list(section.headings), "page": section.page}
            text = json.dumps({key: value for key, value in about.items() if value}, ensure_ascii=False)
            chunks += [(chunk, text) for chunk in chunks_of(section.text, size)]
            await call.progress(f"{head.name or head.document_id}: {len(chunks)} chunks")
        if not chunks:
            raise InvalidInput.field("document", "has no text")
        row = (head.document_id, head.name, head.sha256, json.dumps(dict(head.metadata)), len(chunks))
        await self._with(knowledge_base_id, call, lambda index: _replace(index, row, chunks))
        return len(chunks)

    async def remove(self, knowledge_base_id: str, document_ids: Sequence[str], call: ComponentCall) -> int:
        return await self._with(knowledge_base_id, call, lambda index: _remove(index, document_ids))

    async def retrieve(self, question: Question, call: ComponentCall) -> list[KnowledgeHit]:
        return await self._with(question.knowledge_base_id, call, lambda index: _find(index, question))

    async def _with(self, base: str, call: ComponentCall, work: Callable[[sqlite3.Connection], T]) -> T:
        """Works on the index in a thread, in one transaction. Raises `NotFound` where there is none."""
        return await asyncio.to_thread(_worked, _file(call, base), base, work)


def _file(call: ComponentCall, knowledge_base_id: str) -> Path:
    # Whatever an id holds, its file lies in the folder of the workspace.
    return call.folder / f"{knowledge_base_id.encode().hex()[:200]}.sqlite"


def _worked(file: Path, base: str, work: Callable[[sqlite3.Connection], T]) -> T:
    try:
        connection = sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=BUSY_SECONDS)
    except sqlite3.OperationalError:
        raise NotFound.of("knowledge base", base) from None
    with closing(connection), connection:
        return work(connection)


def _create(file: Path, settings: Mapping[str, Any]) -> None:
    text = json.dumps(settings)
    with closing(sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)) as index:
        # The first of two that make it at the same time wins; the other one finds what is there.
        index.execute("BEGIN IMMEDIATE")
        if index.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
            for statement in _TABLES.strip().split(";\n"):
                index.execute(statement.rstrip(";"))
            index.execute("INSERT INTO about VALUES (?)", (text,))
        known = index.execute("SELECT settings FROM about").fetchone()[0]
        index.execute("COMMIT")
    if known != text:
        raise Conflict(f"the knowledge base is there with other settings: {known}")


def _delete(file: Path) -> None:
    for path in (file, file.with_name(f"{file.name}-journal")):
        path.unlink(missing_ok=True)


def _chunk_characters(index: sqlite3.Connection) -> int:
    return int(json.loads(index.execute("SELECT settings FROM about").fetchone()[0])["chunk_characters"])


def _describe(index: sqlite3.Connection, after: str, limit: int) -> IndexState:
    documents, chunks = index.execute("SELECT count(*), coalesce(sum(chunks), 0) FROM documents").fetchone()
    page = index.execute(
        "SELECT id, sha256, chunks FROM documents WHERE id > ? ORDER BY id LIMIT ?", (after, limit + 1)
    ).fetchall()
    return IndexState(documents, chunks, tuple(IndexedDocument(*row) for row in page[:limit]), len(page) > limit)


def _replace(index: sqlite3.Connection, row: tuple[Any, ...], chunks: Sequence[tuple[str, str]]) -> None:
    _remove(index, [row[0]])
    index.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", row)
    for place, (text, about) in enumerate(chunks):
        number = index.execute(
            "INSERT INTO chunks (document, place, text, about) VALUES (?, ?, ?, ?)", (row[0], place, text, about)
        ).lastrowid
        index.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, indexed(text)))


def _remove(index: sqlite3.Connection, document_ids: Sequence[str]) -> int:
    removed = 0
    for document_id in document_ids:
        rows = index.execute("SELECT number, text FROM chunks WHERE document = ?", (document_id,)).fetchall()
        for number, text in rows:
            index.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (number, indexed(text)))
        index.execute("DELETE FROM chunks WHERE document = ?", (document_id,))
        removed += index.execute("DELETE FROM documents WHERE id = ?", (document_id,)).rowcount
    return removed


def _find(index: sqlite3.Connection, question: Question) -> list[KnowledgeHit]:
    wanted = searched(question.query)
    hits: list[KnowledgeHit] = []
    for document, place, text, about, metadata, score in index.execute(_FIND, (wanted,)) if wanted else ():
        kept = json.loads(metadata)
        if any(kept.get(name) != value for name, value in question.filters.items()):
            continue
        more = kept | json.loads(about)
        chunk_id = f"{document}#{place}"
        hits.append(KnowledgeHit(question.knowledge_base_id, document, chunk_id, text, score, more))
        if len(hits) == question.top_k:
            break
    return hits
