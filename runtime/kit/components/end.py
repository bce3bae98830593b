"""The host's end of calls of components, over the wire: what the host says, what comes back, and calls answered."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from portway.rpc.channel import PortwayChannel
from portway.rpc.client_stream import half_close, send
from portway.rpc.errors import PortwayError
from portway.rpc.status import error_from_rpc
from portway.runtime.sdk.components.documents import Section
from portway.runtime.sdk.testing.host import FakeHost
from portway.runtime.sdk.testing.things import Things
from portway.runtime.sdk.types.context import Permissions
from portway.runtime.sdk.types.convert import write
from portway.v1 import component_pb2 as pb
from portway.v1 import run_call_pb2, run_pull_pb2, runtime_pb2

WORKSPACE = "default"
STORAGE = "storage.plugin"
_GRANTED = Permissions(frozenset({"storage_plugin"}))
_RUN_COMPONENT = "/portway.v1.RuntimeService/RunComponent"


@dataclass(slots=True)
class Talk:
    """One call as the host sees it: `frames` are all that came but calls."""

    call: Any
    host: FakeHost
    answering: asyncio.TaskGroup
    frames: list[pb.ComponentOutputFrame] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    _uploads: dict[int, tuple[run_call_pb2.RunCall, bytearray]] = field(default_factory=dict)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def send(self, *frames: pb.ComponentInputFrame) -> bool:
        """False where the call has ended."""
        async with self._writing:
            return await send(self.call, runtime_pb2.RunComponentRequest(frames=frames).SerializeToString())

    async def finish(self) -> None:
        """Nothing more is said."""
        async with self._writing:
            await half_close(self.call)

    async def read(self) -> bool:
        """Takes the next message; False at the end. Raises what the call ended with as its status."""
        try:
            raw = await self.call.read()
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from None
        if raw is grpc.aio.EOF:
            return False
        for frame in runtime_pb2.RunComponentResponse.FromString(raw).frames:
            if not frame.HasField("call"):
                self.frames.append(frame)
            elif not frame.call.cancel:
                self._take(frame.call)
        return True

    async def until(self, kind: str) -> pb.ComponentOutputFrame:
        """The first frame of a kind."""
        while True:
            for frame in self.frames:
                if frame.WhichOneof("kind") == kind:
                    return frame
            assert await self.read(), f"the call ended without a {kind}: {self.frames}"

    async def result(self) -> pb.ComponentResult:
        """Reads to the end. Raises what the call ended with."""
        while await self.read():
            pass
        return self.frames[-1].result

    async def failure(self) -> PortwayError:
        """What the call ends with."""
        try:
            result = await self.result()
        except PortwayError as error:
            return error
        raise AssertionError(f"the call ended well: {result}")

    def _take(self, call: run_call_pb2.RunCall) -> None:
        request = getattr(call, call.WhichOneof("kind") or "")
        first, data = self._uploads.setdefault(call.call_id, (call, bytearray()))
        data += getattr(request, "data", b"")
        if not call.more:
            del self._uploads[call.call_id]
            self.answering.create_task(self._answer(first, bytes(data)))

    async def _answer(self, call: run_call_pb2.RunCall, data: bytes) -> None:
        async for answer in self.host.answer(call, data):
            await self.send(pb.ComponentInputFrame(answer=answer))


class ComponentEnd:
    """Opens calls of one component on a runtime."""

    def __init__(self, channel: PortwayChannel, kind: str, component_id: str, workspace_id: str = WORKSPACE) -> None:
        self.channel = channel
        self.kind = kind
        self.component_id = component_id
        self.workspace_id = workspace_id
        self.things = Things()

    def start(self, **operation: Any) -> pb.ComponentInputFrame:
        """The first frame of a call."""
        start = pb.ComponentStart(kind=self.kind, component_id=self.component_id, permissions=[STORAGE], **operation)
        start.caller.workspace_id = self.workspace_id
        return pb.ComponentInputFrame(start=start)

    @asynccontextmanager
    async def talk(
        self, *frames: pb.ComponentInputFrame, seconds: float | None = None, epoch: int | None = None
    ) -> AsyncIterator[Talk]:
        """A call under way; leaving the block cancels it."""
        metadata = [] if epoch is None else [("portway-host-epoch", str(epoch))]
        call = self.channel.stream_stream(_RUN_COMPONENT)(metadata=metadata, timeout=seconds)
        failure: PortwayError | None = None
        try:
            async with asyncio.TaskGroup() as answering:
                talk = Talk(call, FakeHost(self.things, _GRANTED), answering)
                await talk.send(*frames)
                try:
                    yield talk
                except PortwayError as error:
                    # Raised again below: the group would wrap it.
                    failure = error
        finally:
            call.cancel()
        if failure is not None:
            raise failure

    async def ask(self, seconds: float | None = None, **operation: Any) -> tuple[pb.ComponentResult, Talk]:
        """A call that says nothing but its start, and how it ended."""
        async with self.talk(self.start(**operation), seconds=seconds) as talk:
            if self.kind not in ("Tool", "EventListener"):
                await talk.finish()
            return await talk.result(), talk

    async def tool(self, arguments: Mapping[str, Any], effect_id: str = "eff_1", **options: Any) -> Any:
        """A tool's result."""
        wanted = pb.ToolInvocation(effect_id=effect_id)
        wanted.arguments.update(dict(arguments))
        result, _ = await self.ask(call_tool=wanted, **options)
        return result.tool

    async def create(self, base: str, settings: Mapping[str, Any] | None = None) -> None:
        wanted = pb.CreateIndex(knowledge_base_id=base)
        wanted.settings.update(dict(settings or {}))
        await self.ask(create_index=wanted)

    async def delete(self, base: str) -> None:
        await self.ask(delete_index=pb.DeleteIndex(knowledge_base_id=base))

    async def describe(self, base: str, after: str = "", limit: int = 0) -> pb.IndexDescribed:
        asked = pb.DescribeIndex(knowledge_base_id=base, after_document_id=after, limit=limit)
        return (await self.ask(describe_index=asked))[0].index

    async def ingest(self, base: str, documents: Mapping[str, Sequence[Section]]) -> list[pb.DocumentOutcome]:
        """Takes documents in; what became of each, in order."""
        start = self.start(ingest_documents=pb.IngestDocuments(knowledge_base_id=base))
        async with self.talk(start) as talk:
            for document_id, sections in documents.items():
                for frame in document_frames(document_id, sections):
                    await talk.send(frame)
            await talk.finish()
            await talk.result()
            return [frame.outcome for frame in talk.frames if frame.HasField("outcome")]

    async def remove(self, base: str, *document_ids: str) -> int:
        wanted = pb.RemoveDocuments(knowledge_base_id=base, document_ids=document_ids)
        return int((await self.ask(remove_documents=wanted))[0].done.count)

    async def retrieve(
        self, base: str, query: str, top_k: int = 0, filters: Mapping[str, Any] | None = None
    ) -> list[run_pull_pb2.KnowledgeHit]:
        asked = pb.RetrieveChunks(knowledge_base_id=base, query=query, top_k=top_k)
        asked.filters.update(dict(filters or {}))
        _, talk = await self.ask(retrieve_chunks=asked)
        return [hit for frame in talk.frames for hit in frame.hits.hits]

    async def parse(self, name: str, media_type: str, content: Iterable[bytes]) -> list[pb.DocumentSection]:
        """The sections of a document whose bytes come in pieces."""
        start = self.start(parse_document=pb.ParseDocument(name=name, media_type=media_type))
        async with self.talk(start) as talk:
            for piece in content:
                if not await talk.send(pb.ComponentInputFrame(piece=piece)):
                    break
            await talk.send(END)
            await talk.finish()
            await talk.result()
            return [frame.section for frame in talk.frames if frame.HasField("section")]

    async def observe(self, events: Sequence[pb.ObservedEvent], missed: int = 0, **options: Any) -> None:
        await self.ask(observe_events=pb.ObserveEvents(events=events, missed_count=missed), **options)


END = pb.ComponentInputFrame(end_of_document=pb.EndOfDocument())


def document_frames(
    document_id: str, sections: Iterable[Section], metadata: Mapping[str, Any] | None = None
) -> Iterable[pb.ComponentInputFrame]:
    """The frames of one document."""
    head = pb.DocumentHead(document_id=document_id, name=f"{document_id}.md", sha256=f"digest of {document_id}")
    head.metadata.update(dict(metadata or {}))
    yield pb.ComponentInputFrame(document=head)
    for section in sections:
        frame = pb.ComponentInputFrame()
        write(section, frame.section)
        yield frame
    yield END
