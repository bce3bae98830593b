"""What adapters read from the scripted host: transcripts, conversations, runs, files."""

from typing import Never, Protocol

from portway.rpc.call import Call
from portway.rpc.errors import InvalidInput, NotFound, OutOfRange, PayloadTooLarge, Unavailable
from portway.v1 import artifact_pb2, content_pb2, conversation_pb2, run_pb2
from tests.fakes.chat_store import ChatStore

Unary = Call[Never, Never]
PAGE = 50
_UPLOAD_LIMIT = 20 * 1024 * 1024
_FRAME = 64 * 1024


class ReadFaults(Protocol):
    unreadable: bool


class ScriptedConversations:
    def __init__(self, store: ChatStore, faults: ReadFaults) -> None:
        self._store = store
        self._faults = faults

    async def ListMessages(
        self, request: conversation_pb2.ListMessagesRequest, call: Unary
    ) -> conversation_pb2.ListMessagesResponse:
        if self._faults.unreadable:
            raise Unavailable("the disk does not answer", retry_after=0.05)
        items = self._store.items.get(request.conversation_id)
        if items is None:
            raise NotFound.of("conversation", request.conversation_id)
        size = request.page_size or PAGE
        cursors = {item.cursor: index for index, item in enumerate(items)}
        if request.after:
            begin = self._find(cursors, request.after) + 1
            chosen = items[begin : begin + size]
        else:
            end = self._find(cursors, request.before) if request.before else len(items)
            begin = max(end - size, 0)
            chosen = items[begin:end]
        return conversation_pb2.ListMessagesResponse(
            items=chosen,
            before_cursor=chosen[0].cursor if chosen and begin > 0 else "",
            after_cursor=chosen[-1].cursor if chosen else request.after,
        )

    @staticmethod
    def _find(cursors: dict[str, int], cursor: str) -> int:
        if cursor not in cursors:
            raise InvalidInput.field("after", "is no cursor of this conversation")
        return cursors[cursor]

    async def ListConversations(
        self, request: conversation_pb2.ListConversationsRequest, call: Unary
    ) -> conversation_pb2.ListConversationsResponse:
        found = [one for one in self._store.conversations.values() if request.surface in ("", one.surface)]
        found.sort(key=lambda one: one.last_message_time.ToMicroseconds(), reverse=True)
        begin = int(request.page_token or 0)
        end = begin + (request.page_size or PAGE)
        token = str(end) if end < len(found) else ""
        return conversation_pb2.ListConversationsResponse(conversations=found[begin:end], next_page_token=token)


class ScriptedRuns:
    def __init__(self, store: ChatStore) -> None:
        self._store = store

    async def GetRun(self, request: run_pb2.GetRunRequest, call: Unary) -> run_pb2.GetRunResponse:
        run = self._store.runs.get(request.run_id)
        if run is None:
            raise NotFound.of("run", request.run_id)
        return run_pb2.GetRunResponse(run=run.run)

    async def ListRuns(self, request: run_pb2.ListRunsRequest, call: Unary) -> run_pb2.ListRunsResponse:
        runs = [
            run.run
            for run in self._store.runs.values()
            if run.run.conversation_id == request.conversation_id and run.run.state in request.states
        ]
        return run_pb2.ListRunsResponse(runs=reversed(runs))

    async def WatchRun(self, request: run_pb2.WatchRunRequest, call: Call[None, run_pb2.WatchRunResponse]) -> None:
        run = self._store.runs.get(request.run_id)
        if run is None:
            raise NotFound.of("run", request.run_id)
        await call.write(run_pb2.WatchRunResponse(events=run.ledger[request.after_sequence :]))

    async def CancelRun(self, request: run_pb2.CancelRunRequest, call: Unary) -> run_pb2.CancelRunResponse:
        run = self._store.runs.get(request.run_id)
        if run is None:
            raise NotFound.of("run", request.run_id)
        run.cancelled.set()
        await run.over.wait()
        return run_pb2.CancelRunResponse(run=run.run)


class ScriptedArtifacts:
    def __init__(self, store: ChatStore) -> None:
        self._store = store

    async def CreateArtifact(
        self, call: Call[artifact_pb2.CreateArtifactRequest, None]
    ) -> artifact_pb2.CreateArtifactResponse:
        first = await call.read()
        if first is None or first.WhichOneof("kind") != "start":
            raise InvalidInput("start comes first")
        content = bytearray()
        while (frame := await call.read()) is not None:
            content += frame.data
            if len(content) > _UPLOAD_LIMIT:
                raise PayloadTooLarge("the file is larger than 20 MiB")
        if first.start.size and first.start.size != len(content):
            raise InvalidInput.field("start.size", "is not the size of what was sent")
        start = content_pb2.ArtifactRef(name=first.start.name, mime_type=first.start.mime_type)
        ref = self._store.add_artifact(start, bytes(content))
        return artifact_pb2.CreateArtifactResponse(artifact=artifact_pb2.Artifact(ref=ref))

    async def GetArtifact(
        self, request: artifact_pb2.GetArtifactRequest, call: Unary
    ) -> artifact_pb2.GetArtifactResponse:
        ref, _ = self._find(request.artifact_id)
        return artifact_pb2.GetArtifactResponse(artifact=artifact_pb2.Artifact(ref=ref))

    async def ReadArtifact(
        self, request: artifact_pb2.ReadArtifactRequest, call: Call[None, artifact_pb2.ReadArtifactResponse]
    ) -> None:
        _, content = self._find(request.artifact_id)
        if request.offset > len(content):
            raise OutOfRange("the range lies behind the end")
        end = request.offset + request.length if request.length else len(content)
        for begin in range(request.offset, end, _FRAME):
            await call.write(artifact_pb2.ReadArtifactResponse(data=content[begin : min(begin + _FRAME, end)]))

    def _find(self, artifact_id: str) -> tuple[content_pb2.ArtifactRef, bytes]:
        found = self._store.artifacts.get(artifact_id)
        if found is None:
            raise NotFound.of("artifact", artifact_id)
        return found
