"""Knowledge engines: they keep an index for each knowledge base and answer questions from it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Iterable, Sequence
from dataclasses import dataclass, field

from portway.runtime.sdk.components.call import ComponentCall
from portway.runtime.sdk.components.documents import IncomingDocument
from portway.runtime.sdk.types.convert import Json
from portway.runtime.sdk.types.pulled import KnowledgeHit


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one knowledge base. `filters` follow the engine's retrieval schema."""

    knowledge_base_id: str
    query: str
    top_k: int = 5
    filters: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """A document that the index holds, with the digest that it came with."""

    document_id: str = ""
    sha256: str = ""
    chunk_count: int = 0


@dataclass(frozen=True, slots=True)
class IndexState:
    """What an index holds: how much, and a page of its documents by id."""

    document_count: int = 0
    chunk_count: int = 0
    documents: tuple[IndexedDocument, ...] = ()
    has_more: bool = False


class KnowledgeEngine(ABC):
    """An engine. One instance serves all calls of the process, many at once: it may hold connections.

    Documents are the host's, and an index is made of them: it may lie in `call.folder` or in a database of the
    engine's own, and where it is lost the host brings the documents again. What belongs to one workspace
    (`call.caller.workspace_id`) is never seen by another. Errors are raised by meaning: `NotFound` for an index that is
    not there, `InvalidInput` for settings and filters, `Conflict` for an index with other settings.
    """

    @abstractmethod
    async def create(self, knowledge_base_id: str, settings: Json, call: ComponentCall) -> None:
        """Makes the index; the same again changes nothing."""

    @abstractmethod
    async def delete(self, knowledge_base_id: str, call: ComponentCall) -> None:
        """Removes the index with all of its documents. One that is not there is deleted already."""

    @abstractmethod
    async def describe(self, knowledge_base_id: str, after: str, limit: int, call: ComponentCall) -> IndexState:
        """What the index holds, with documents after the id `after`, at most `limit`."""

    @abstractmethod
    async def ingest(self, knowledge_base_id: str, document: IncomingDocument, call: ComponentCall) -> int:
        """Takes a document in, in the place of one with its id, and returns how many chunks can be found now. What it
        raises is this document's error, and the next one follows. Cancelled amid a document, nothing of it is left."""

    @abstractmethod
    async def remove(self, knowledge_base_id: str, document_ids: Sequence[str], call: ComponentCall) -> int:
        """Takes documents out, and returns how many were there."""

    @abstractmethod
    async def retrieve(
        self, question: Question, call: ComponentCall
    ) -> Iterable[KnowledgeHit] | AsyncIterable[KnowledgeHit]:
        """At most `top_k` hits, best first."""
