"""The pieces of a run's context."""

from dataclasses import dataclass
from functools import lru_cache

from google.protobuf.json_format import Parse
from google.protobuf.struct_pb2 import Struct

from portway.server.agents.types import Budget
from portway.server.events.facts import EventFacts
from portway.server.events.wire import media_of
from portway.server.snapshot.freeze import Snapshot
from portway.server.snapshot.projection import Projection
from portway.v1 import event_pb2, run_context_pb2

_SOURCES = {
    "schedule.triggered": run_context_pb2.TRIGGER_SOURCE_SCHEDULER,
    "api.invoked": run_context_pb2.TRIGGER_SOURCE_API,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event stands: its numbers, and what is known of it from outside of itself."""

    event_id: str
    event_sequence: int
    accept_time: int
    item_sequence: int
    parent_run_id: str = ""


def resources_of(snapshot: Snapshot, projection: Projection) -> run_context_pb2.RunResources:
    """The projection of a snapshot that runners see."""
    allowed = snapshot.permissions.allowed
    resources = run_context_pb2.RunResources(
        storage_plugin="storage_plugin" in allowed,
        storage_workspace="storage_workspace" in allowed,
        storage_binding="storage_binding" in allowed,
        platform_actions=sorted(snapshot.permissions.platform_actions),
        box=bool(snapshot.session_id) and "box_exec" in allowed,
    )
    resources.MergeFrom(projection.resources)
    return resources


def trigger_of(event: event_pb2.Event, facts: EventFacts, place: Place) -> run_context_pb2.Trigger:
    source = _SOURCES.get(facts.type)
    if source is None:
        source = run_context_pb2.TRIGGER_SOURCE_PLATFORM if facts.delivers else run_context_pb2.TRIGGER_SOURCE_API
        if facts.surface == "web_chat":
            source = run_context_pb2.TRIGGER_SOURCE_WEBUI
    trigger = run_context_pb2.Trigger(type=facts.type, source=source)
    trigger.time.FromMicroseconds(place.accept_time)
    return trigger


def event_of(event: event_pb2.Event, place: Place) -> run_context_pb2.EventContext:
    context = run_context_pb2.EventContext(
        event_id=place.event_id, type=event.type, source=event.source, source_event_type=event.source_event_type
    )
    if event.HasField("event_time"):
        context.time.CopyFrom(event.event_time)
    else:
        context.time.FromMicroseconds(place.accept_time)
    if event.HasField("raw_ref"):
        context.raw_ref.CopyFrom(event.raw_ref)
    if event.HasField("data"):
        context.data.CopyFrom(event.data)
    return context


def conversation_of(facts: EventFacts, snapshot: Snapshot) -> run_context_pb2.ConversationContext:
    return run_context_pb2.ConversationContext(
        conversation_id=facts.conversation_id,
        thread_id=facts.thread_id,
        launcher_type=facts.launcher_type,
        launcher_id=facts.launcher_id,
        sender_id=facts.actor_id,
        bot_id=facts.bot_id,
        workspace_id=facts.workspace_id,
        session_id=snapshot.session_id,
    )


def input_of(event: event_pb2.Event, facts: EventFacts) -> run_context_pb2.RunInput:
    if not facts.expects_reply:
        # Nobody said it: what happened stands in the event, its actor and its subject.
        return run_context_pb2.RunInput()
    given = run_context_pb2.RunInput(text=facts.text, contents=event.parts, attachments=media_of(event.parts))
    if event.HasField("interaction"):
        given.interaction.CopyFrom(event.interaction)
    return given


def budget_of(runtime: run_context_pb2.RuntimeContext, budget: Budget) -> None:
    if budget == Budget():
        return
    message = runtime.budget
    for name in ("cost_micros", "tokens", "calls", "bytes"):
        value = getattr(budget, name)
        if value is not None:
            setattr(message, name, value)
    message.currency = budget.currency
    if budget.seconds is not None:
        message.time.FromMilliseconds(round(budget.seconds * 1000))


@lru_cache(maxsize=1024)
def struct_of(text: str) -> Struct:
    """JSON text as a message; callers copy it and never change it."""
    return Parse(text, Struct())
