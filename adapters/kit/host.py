"""What an adapter asks the host besides the connection: transcripts, conversations, runs and files."""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from portway.adapters.kit.dial import Dial
from portway.adapters.kit.live_types import LiveEvent, RunEnded
from portway.adapters.kit.live_wire import events_of
from portway.adapters.kit.questions import Question, question_of
from portway.adapters.kit.types import Attachment
from portway.adapters.kit.wire import attachment_of, attachments_of
from portway.rpc.errors import NotFound
from portway.rpc.status import errors_by_meaning
from portway.v1 import (
    artifact_pb2,
    artifact_pb2_grpc,
    content_pb2,
    conversation_pb2,
    conversation_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
    transcript_pb2,
)

CALL_SECONDS = 15.0
CANCEL_SECONDS = 30.0
UPLOAD_SECONDS = 600.0
FRAME_BYTES = 256 * 1024
_OPEN_STATES = (
    run_pb2.RUN_STATE_QUEUED,
    run_pb2.RUN_STATE_RUNNING,
    run_pb2.RUN_STATE_WAITING,
    run_pb2.RUN_STATE_CANCELLING,
)
_ROLES = {
    content_pb2.MESSAGE_ROLE_USER: "user",
    content_pb2.MESSAGE_ROLE_ASSISTANT: "assistant",
    content_pb2.MESSAGE_ROLE_SYSTEM: "system",
    content_pb2.MESSAGE_ROLE_TOOL: "tool",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One message of a conversation as people see it. `kind` is `message`, `notice`, `interaction` or `event`."""

    item_id: str
    role: str
    kind: str
    text: str
    attachments: tuple[Attachment, ...]
    run_id: str
    actor_name: str
    cursor: str
    time: datetime
    redacted: bool
    question: Question | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Items in order of time. `before` is empty where nothing older exists."""

    items: tuple[Item, ...]
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ConversationLine:
    """A conversation in a list."""

    conversation_id: str
    title: str
    message_count: int
    open_run_count: int
    last_time: datetime


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """Conversations, the last used first. `next` is empty at the end."""

    lines: tuple[ConversationLine, ...]
    next: str


class Host:
    """Calls on the host. Each raises what the host answers, by meaning; `Unavailable` where it is not there."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial

    async def items(self, conversation_id: str, *, before: str = "", after: str = "", limit: int = 50) -> Page:
        """A page before or after a cursor; the last one without either. A conversation that does not exist is empty."""
        request = conversation_pb2.ListMessagesRequest(
            conversation_id=conversation_id, before=before, after=after, page_size=limit
        )
        try:
            with errors_by_meaning():
                response = await self._conversations().ListMessages(request, timeout=CALL_SECONDS)
        except NotFound:
            return Page((), "", "")
        return Page(
            tuple(_item_of(item) for item in response.items), response.before_cursor, response.after_cursor or after
        )

    async def conversations(self, surface: str, page_token: str = "", limit: int = 50) -> ConversationPage:
        request = conversation_pb2.ListConversationsRequest(surface=surface, page_size=limit, page_token=page_token)
        with errors_by_meaning():
            response = await self._conversations().ListConversations(request, timeout=CALL_SECONDS)
        lines = tuple(
            ConversationLine(
                one.conversation_id,
                one.title,
                one.message_count,
                one.open_run_count,
                _time_of(one.last_message_time if one.HasField("last_message_time") else one.create_time),
            )
            for one in response.conversations
        )
        return ConversationPage(lines, response.next_page_token)

    async def open_runs(self, conversation_id: str, limit: int = 50) -> list[str]:
        """The runs of a conversation that wait or go on, the oldest first."""
        request = run_pb2.ListRunsRequest(conversation_id=conversation_id, states=_OPEN_STATES, page_size=limit)
        with errors_by_meaning():
            response = await self._runs().ListRuns(request, timeout=CALL_SECONDS)
        return [run.run_id for run in reversed(response.runs)]

    async def conversation_of(self, run_id: str) -> str:
        with errors_by_meaning():
            response = await self._runs().GetRun(run_pb2.GetRunRequest(run_id=run_id), timeout=CALL_SECONDS)
        return response.run.conversation_id

    async def run_events(self, run_id: str) -> AsyncIterator[LiveEvent]:
        """What is in the ledger of a run, until its end."""
        request = run_pb2.WatchRunRequest(run_id=run_id, committed_only=True)
        with errors_by_meaning():
            async for response in self._runs().WatchRun(request, timeout=CALL_SECONDS):
                for event in events_of(response.events):
                    yield event
                    if isinstance(event.change, RunEnded):
                        return

    async def cancel_run(self, run_id: str, reason: str) -> None:
        """Returns when the run is settled. One that has ended already is no error."""
        with errors_by_meaning():
            await self._runs().CancelRun(run_pb2.CancelRunRequest(run_id=run_id, reason=reason), timeout=CANCEL_SECONDS)

    async def create_artifact(self, name: str, mime_type: str, size: int, data: AsyncIterable[bytes]) -> Attachment:
        """Uploads a file as its bytes arrive. `size` 0: not known before."""
        start = artifact_pb2.CreateArtifactStart(name=name, mime_type=mime_type, size=size)
        call = self._artifacts().CreateArtifact(timeout=UPLOAD_SECONDS)
        with errors_by_meaning():
            try:
                # A host that refuses ends the call while we still write: the answer then says why.
                with contextlib.suppress(asyncio.InvalidStateError):
                    await call.write(artifact_pb2.CreateArtifactRequest(start=start))
                    async for piece in data:
                        for begin in range(0, len(piece), FRAME_BYTES):
                            frame = piece[begin : begin + FRAME_BYTES]
                            await call.write(artifact_pb2.CreateArtifactRequest(data=frame))
                    await call.done_writing()
                response = await call
            finally:
                call.cancel()
        return attachment_of(response.artifact.ref)

    async def artifact(self, artifact_id: str) -> Attachment:
        """What a file is."""
        request = artifact_pb2.GetArtifactRequest(artifact_id=artifact_id)
        with errors_by_meaning():
            response = await self._artifacts().GetArtifact(request, timeout=CALL_SECONDS)
        return attachment_of(response.artifact.ref)

    async def read_artifact(self, artifact_id: str, offset: int, length: int) -> AsyncIterator[bytes]:
        """The bytes of a range; `length` 0: to the end."""
        request = artifact_pb2.ReadArtifactRequest(artifact_id=artifact_id, offset=offset, length=length)
        with errors_by_meaning():
            async for response in self._artifacts().ReadArtifact(request, timeout=UPLOAD_SECONDS):
                yield response.data

    def _conversations(self) -> "conversation_pb2_grpc.ConversationServiceAsyncStub":
        return conversation_pb2_grpc.ConversationServiceStub(self._dial.channel())

    def _runs(self) -> "run_pb2_grpc.RunServiceAsyncStub":
        return run_pb2_grpc.RunServiceStub(self._dial.channel())

    def _artifacts(self) -> "artifact_pb2_grpc.ArtifactServiceAsyncStub":
        return artifact_pb2_grpc.ArtifactServiceStub(self._dial.channel())


def _item_of(item: transcript_pb2.TranscriptItem) -> Item:
    shown = attachments_of(item.parts)
    listed = {one.artifact_id for one in shown}
    more = tuple(attachment_of(ref) for ref in item.artifacts if ref.artifact_id not in listed)
    return Item(
        item.item_id,
        _ROLES.get(item.role, "assistant"),
        item.kind or "message",
        item.content,
        shown + more,
        item.run_id,
        item.actor_name,
        item.cursor,
        _time_of(item.create_time),
        item.redacted,
        next((question_of(part.question) for part in item.parts if part.HasField("question")), None),
    )


def _time_of(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
