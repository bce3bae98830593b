"""Between conversations and their messages."""

from portway.rpc.identity import Caller
from portway.rpc.ids import derived_id
from portway.server.conversations.read import ConversationSeen
from portway.server.conversations.types import ConversationState
from portway.v1 import content_pb2, conversation_pb2, event_pb2, run_context_pb2

SURFACE = "api"


def conversation_message(seen: ConversationSeen) -> conversation_pb2.Conversation:
    found = seen.conversation
    message = conversation_pb2.Conversation(
        conversation_id=found.conversation_id,
        surface=found.surface,
        bot_id=found.bot_id,
        launcher_type=found.launcher_type,
        launcher_id=found.launcher_id,
        thread_id=found.thread_id,
        title=found.title,
        message_count=found.last_sequence,
        current=found.state is ConversationState.OPEN,
        open_run_count=seen.open_runs,
        forked_from=found.forked_from,
    )
    message.create_time.FromMicroseconds(found.create_time)
    message.last_message_time.FromMicroseconds(found.last_active_time)
    return message


def submit_request(
    request: conversation_pb2.SendMessageRequest, key: str, caller: Caller
) -> event_pb2.SubmitEventRequest:
    """The event that a message is. Without a conversation the key makes one: sent again, it is the same event."""
    address = event_pb2.EventAddress(
        conversation_id=request.conversation_id,
        surface=SURFACE,
        launcher_type=SURFACE,
        launcher_id=request.conversation_id or derived_id("chat", key),
    )
    # Whoever holds the token speaks: state that belongs to a person belongs to it.
    actor = run_context_pb2.Actor(type="user", id=caller.subject or caller.token_id)
    event = event_pb2.Event(type="message.received", source=SURFACE, address=address, actor=actor)
    if request.text:
        event.parts.append(content_pb2.ContentPart(text=content_pb2.TextPart(text=request.text)))
    event.parts.extend(request.parts)
    return event_pb2.SubmitEventRequest(event=event, idempotency_key=key, agent_id=request.agent_id)
