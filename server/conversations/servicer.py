"""ConversationService on the wire."""

from contextlib import aclosing
from typing import Never, assert_never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.rpc.ids import new_id
from portway.server.conversations.change import ConversationKeeper
from portway.server.conversations.read import ConversationReader, ConversationSeen
from portway.server.conversations.send import Finished, Talk
from portway.server.conversations.store import FIRST_PAGE
from portway.server.conversations.types import ConversationCursor
from portway.server.conversations.wire import conversation_message, submit_request
from portway.server.events.types import Accepted
from portway.server.events.wire import submit_of
from portway.server.runs.frames import field
from portway.server.runs.watcher import Batch
from portway.server.runs.wire import run_message
from portway.server.transcript.store import Transcript
from portway.server.transcript.types import SearchQuery
from portway.server.transcript.wire import item_cursor, item_message, roles_of, transcript_stream
from portway.v1 import conversation_pb2 as pb

DEFAULT_PAGE = 50
DEFAULT_HITS = 10

_Call = Call[Never, Never]
_RUN_FIELD = pb.SendMessageResponse.RUN_FIELD_NUMBER


class ConversationServicer:
    """The plain way to talk with an agent."""

    def __init__(
        self,
        *,
        talk: Talk,
        reader: ConversationReader,
        keeper: ConversationKeeper,
        transcript: Transcript,
        cursors: CursorCodec,
    ) -> None:
        self._talk = talk
        self._reader = reader
        self._keeper = keeper
        self._transcript = transcript
        self._cursors = cursors

    async def SendMessage(self, request: pb.SendMessageRequest, call: Call[None, pb.SendMessageResponse]) -> None:
        key = request.idempotency_key or new_id("key")
        submit = submit_of(submit_request(request, key, call.caller), call.caller.workspace_id, call.trace)
        # Closed here and not by the garbage collector: a watcher must be gone when its caller is.
        async with aclosing(self._talk.send(call.caller, submit)) as said:
            async for item in said:
                match item:
                    case Accepted():
                        await call.write(pb.SendMessageResponse(accepted=_accepted(item)))
                        if not item.run_id:
                            await call.write(pb.SendMessageResponse(finished=pb.MessageFinished()))
                    case Batch():
                        await call.write_bytes(field(_RUN_FIELD, item.watch_response()))
                    case Finished():
                        await call.write(pb.SendMessageResponse(finished=self._finished(item)))
                    case _:
                        assert_never(item)

    async def ListConversations(
        self, request: pb.ListConversationsRequest, call: _Call
    ) -> pb.ListConversationsResponse:
        workspace_id, size = call.caller.workspace_id, request.page_size or DEFAULT_PAGE
        listing = f"conversations/{workspace_id}/{request.surface}"
        after = self._after(request.page_token, listing)
        found = await self._reader.page(workspace_id, request.surface, after, size + 1)
        answer = pb.ListConversationsResponse(conversations=[conversation_message(seen) for seen in found[:size]])
        if len(found) > size:
            last = found[size - 1].conversation
            answer.next_page_token = self._cursors.write_page(
                listing, f"{last.last_active_time} {last.conversation_id}"
            )
        return answer

    async def GetConversation(self, request: pb.GetConversationRequest, call: _Call) -> pb.GetConversationResponse:
        seen = await self._reader.conversation(call.caller.workspace_id, request.conversation_id)
        return pb.GetConversationResponse(conversation=conversation_message(seen))

    async def ForkConversation(self, request: pb.ForkConversationRequest, call: _Call) -> pb.ForkConversationResponse:
        fork = await self._keeper.fork(
            call.caller.workspace_id, request.conversation_id, request.item_id, request.request_id
        )
        return pb.ForkConversationResponse(conversation=conversation_message(ConversationSeen(fork, 0)))

    async def ResetConversation(
        self, request: pb.ResetConversationRequest, call: _Call
    ) -> pb.ResetConversationResponse:
        await self._keeper.reset(call.caller.workspace_id, request.conversation_id)
        seen = await self._reader.conversation(call.caller.workspace_id, request.conversation_id)
        return pb.ResetConversationResponse(conversation=conversation_message(seen))

    async def ListMessages(self, request: pb.ListMessagesRequest, call: _Call) -> pb.ListMessagesResponse:
        workspace_id, conversation_id = call.caller.workspace_id, request.conversation_id
        stream = transcript_stream(workspace_id, conversation_id)
        page = await self._reader.messages(
            workspace_id,
            conversation_id,
            before=self._cursors.read(request.before, stream, field="before").sequence if request.before else None,
            after=self._cursors.read(request.after, stream, field="after").sequence if request.after else None,
            limit=request.page_size or DEFAULT_PAGE,
        )
        answer = pb.ListMessagesResponse(
            items=[item_message(item, workspace_id, self._cursors) for item in page.items], after_cursor=request.after
        )
        if page.items:
            answer.after_cursor = answer.items[-1].cursor
        elif not answer.after_cursor:
            answer.after_cursor = item_cursor(self._cursors, workspace_id, conversation_id, 0)
        if page.older:
            answer.before_cursor = answer.items[0].cursor
        return answer

    async def SearchMessages(self, request: pb.SearchMessagesRequest, call: _Call) -> pb.SearchMessagesResponse:
        workspace_id = call.caller.workspace_id
        if request.conversation_id:
            await self._reader.conversation(workspace_id, request.conversation_id)
        query = SearchQuery(
            text=request.query,
            limit=request.limit or DEFAULT_HITS,
            conversation_id=request.conversation_id,
            roles=roles_of(list(request.roles)),
        )
        found = await self._transcript.search(workspace_id, query)
        return pb.SearchMessagesResponse(items=[item_message(item, workspace_id, self._cursors) for item in found])

    def _finished(self, finished: Finished) -> pb.MessageFinished:
        message = pb.MessageFinished(run=run_message(finished.run, self._cursors))
        if finished.reply is not None:
            message.reply.CopyFrom(item_message(finished.reply, finished.run.workspace_id, self._cursors))
        return message

    def _after(self, token: str, listing: str) -> ConversationCursor:
        if not token:
            return FIRST_PAGE
        time, _, conversation_id = self._cursors.read_page(token, listing).partition(" ")
        return ConversationCursor(last_active_time=int(time), conversation_id=conversation_id)


def _accepted(accepted: Accepted) -> pb.MessageAccepted:
    return pb.MessageAccepted(
        event_id=accepted.event_id,
        run_id=accepted.run_id,
        conversation_id=accepted.conversation_id,
        duplicate=accepted.duplicate,
        message_id=accepted.item_id,
    )
