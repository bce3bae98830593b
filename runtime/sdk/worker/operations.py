"""What the components of a Python plugin do for each operation of the contract."""

import sys
import traceback
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from typing import Any, cast

from portway.rpc.errors import InternalError, InvalidInput, NotFound, PortwayError
from portway.runtime.sdk.components.call import Caller, ComponentCall
from portway.runtime.sdk.components.documents import DocumentHead, IncomingDocument
from portway.runtime.sdk.components.knowledge import KnowledgeEngine, Question
from portway.runtime.sdk.components.listener import EventListener, ListenerCall, ObservedEvent
from portway.runtime.sdk.components.parser import Parser
from portway.runtime.sdk.session.component_session import ComponentSession
from portway.runtime.sdk.types.convert import read, read_json, write
from portway.v1 import component_pb2 as pb
from portway.v1 import run_result_pb2

# Hits travel together up to so many bytes.
HITS_BYTES = 256 * 1024
Work = Callable[[Any, ComponentSession], Coroutine[Any, Any, pb.ComponentResult]]


async def perform(component: Any, session: ComponentSession) -> pb.ComponentResult:
    """Does what the start asks of an instance of a component. Raises by meaning only."""
    operation = session.start.WhichOneof("operation") or ""
    base, work = _OPERATIONS.get(operation, (None, None))
    if base is None or work is None or not isinstance(component, base):
        raise InvalidInput.field("start.operation", f"{operation or 'nothing'} is none of a {session.start.kind}")
    try:
        return await work(component, session)
    except PortwayError:
        raise
    except Exception as error:
        raise told(error, session.start.component_id) from error


def told(error: Exception, component_id: str) -> InternalError:
    """What the host hears of an author's mistake; the traceback stays in the plugin's log."""
    traceback.print_exception(error, file=sys.stderr)
    name = type(error).__name__
    return InternalError(f"{component_id} raised {name}: {str(error)[:500]} (the traceback is in the plugin's log)")


def call_of(session: ComponentSession) -> ComponentCall:
    return ComponentCall(caller_of(session.start.caller), session.deadline, _report(session), session.storage)


def caller_of(message: pb.ComponentCaller) -> Caller:
    return read(Caller, message)


def _report(session: ComponentSession) -> Callable[[str, float | None], Coroutine[Any, Any, None]]:
    async def report(text: str, fraction: float | None) -> None:
        await session.send(pb.ComponentOutputFrame(progress=run_result_pb2.Progress(text=text, fraction=fraction)))

    return report


async def _create(engine: KnowledgeEngine, session: ComponentSession) -> pb.ComponentResult:
    wanted = session.start.create_index
    await engine.create(wanted.knowledge_base_id, read_json(wanted.settings), call_of(session))
    return _done(1)


async def _delete(engine: KnowledgeEngine, session: ComponentSession) -> pb.ComponentResult:
    await engine.delete(session.start.delete_index.knowledge_base_id, call_of(session))
    return _done(1)


async def _describe(engine: KnowledgeEngine, session: ComponentSession) -> pb.ComponentResult:
    asked = session.start.describe_index
    limit = asked.limit or 100
    state = await engine.describe(asked.knowledge_base_id, asked.after_document_id, limit, call_of(session))
    return pb.ComponentResult(index=write(state, pb.IndexDescribed()))


async def _ingest(engine: KnowledgeEngine, session: ComponentSession) -> pb.ComponentResult:
    base, call = session.start.ingest_documents.knowledge_base_id, call_of(session)
    taken = failed = 0
    async for document in session.documents():
        outcome = await _ingest_one(engine, base, document, call)
        failed += outcome.HasField("error")
        taken += not outcome.HasField("error")
        await session.send(pb.ComponentOutputFrame(outcome=outcome))
    return pb.ComponentResult(done=pb.OperationDone(count=taken, failed_count=failed))


async def _ingest_one(
    engine: KnowledgeEngine, base: str, document: IncomingDocument, call: ComponentCall
) -> pb.DocumentOutcome:
    document_id = document.head.document_id
    outcome = pb.DocumentOutcome(document_id=document_id)
    try:
        if not document_id:
            raise InvalidInput.field("document.document_id", "is missing")
        outcome.chunk_count = await engine.ingest(base, document, call)
    except NotFound:
        # There is no index: no document of this call can be taken in.
        raise
    except PortwayError as error:
        outcome.error.CopyFrom(run_result_pb2.RunError(code=str(error.reason), message=error.message[:8000]))
    except Exception as error:  # noqa: BLE001 - one document that an engine fails on does not hold up the others
        meaning = told(error, f"the document {document_id!r}")
        outcome.error.CopyFrom(run_result_pb2.RunError(code=str(meaning.reason), message=meaning.message))
    return outcome


async def _remove(engine: KnowledgeEngine, session: ComponentSession) -> pb.ComponentResult:
    wanted = session.start.remove_documents
    return _done(await engine.remove(wanted.knowledge_base_id, list(wanted.document_ids), call_of(session)))


async def _retrieve(engine: KnowledgeEngine, session: ComponentSession) -> pb.ComponentResult:
    asked = session.start.retrieve_chunks
    if not asked.query.strip():
        raise InvalidInput.field("start.retrieve_chunks.query", "is empty; ask something")
    question = Question(asked.knowledge_base_id, asked.query, asked.top_k or 5, read_json(asked.filters))
    packed, size, count = pb.RetrievedHits(), 0, 0
    async for hit in _each(await engine.retrieve(question, call_of(session))):
        if count == question.top_k:
            break
        count += 1
        size += write(hit, packed.hits.add()).ByteSize()
        if size >= HITS_BYTES:
            await session.send(pb.ComponentOutputFrame(hits=packed))
            packed, size = pb.RetrievedHits(), 0
    if packed.hits:
        await session.send(pb.ComponentOutputFrame(hits=packed))
    return _done(count)


async def _parse(parser: Parser, session: ComponentSession) -> pb.ComponentResult:
    asked = session.start.parse_document
    document = session.document(DocumentHead(name=asked.name, media_type=asked.media_type))
    count = 0
    async for section in parser.parse(document, call_of(session)):
        frame = pb.ComponentOutputFrame()
        write(section, frame.section)
        await session.send(frame)
        count += 1
    return _done(count)


async def _observe(listener: EventListener, session: ComponentSession) -> pb.ComponentResult:
    shown = session.start.observe_events
    caller = caller_of(session.start.caller)
    call = ListenerCall(caller, session.deadline, session.storage, shown.missed_count)
    events = tuple(read(ObservedEvent, event) for event in shown.events)
    await listener.observe(events, call)
    return _done(len(events))


async def _each(hits: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(hits, AsyncIterable):
        async for hit in hits:
            yield hit
        return
    for hit in hits:
        yield hit


def _done(count: int) -> pb.ComponentResult:
    return pb.ComponentResult(done=pb.OperationDone(count=count))


_OPERATIONS: Mapping[str, tuple[type, Work]] = {
    "create_index": (KnowledgeEngine, cast(Work, _create)),
    "delete_index": (KnowledgeEngine, cast(Work, _delete)),
    "describe_index": (KnowledgeEngine, cast(Work, _describe)),
    "ingest_documents": (KnowledgeEngine, cast(Work, _ingest)),
    "remove_documents": (KnowledgeEngine, cast(Work, _remove)),
    "retrieve_chunks": (KnowledgeEngine, cast(Work, _retrieve)),
    "parse_document": (Parser, cast(Work, _parse)),
    "observe_events": (EventListener, cast(Work, _observe)),
}
