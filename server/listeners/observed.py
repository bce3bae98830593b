"""Events as listeners see them: what happened, where it comes from, and nothing that leads to an answer."""

from portway.server.events.types import Event
from portway.server.events.wire import facts_of
from portway.server.snapshot.context_parts import Place, event_of, input_of
from portway.v1 import component_pb2, event_pb2


def observed(event: Event, message: event_pb2.Event) -> component_pb2.ObservedEvent:
    """`message` is the event's payload. The provenance of its parts is the host's, as in runs."""
    facts = facts_of(message, event.workspace_id)
    place = Place(event.event_id, event.sequence, event.accept_time, 0)
    shown = component_pb2.ObservedEvent(
        sequence=event.sequence,
        event=event_of(message, place),
        input=input_of(message, facts),
        run_id=event.run_id,
        outcome=event.outcome,
    )
    conversation = shown.conversation
    conversation.conversation_id = event.conversation_id
    conversation.thread_id = facts.thread_id
    conversation.launcher_type = facts.launcher_type
    conversation.launcher_id = facts.launcher_id
    conversation.sender_id = facts.actor_id
    conversation.bot_id = facts.bot_id
    conversation.workspace_id = event.workspace_id
    shown.actor.CopyFrom(message.actor)
    if message.HasField("subject"):
        shown.subject.CopyFrom(message.subject)
    shown.accept_time.FromMicroseconds(event.accept_time)
    return shown
