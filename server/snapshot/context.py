"""The context that a run is given, and the snapshot as it is kept with the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from portway.rpc.cursor import Cursor, CursorCodec
from portway.server.agents.types import DeliveryPolicy
from portway.server.events.facts import EventFacts
from portway.server.events.routing import Resolution
from portway.server.runtimes.runner import PROTOCOL_VERSION
from portway.server.snapshot.adapter_data import harmless
from portway.server.snapshot.context_parts import (
    Place,
    budget_of,
    conversation_of,
    event_of,
    input_of,
    resources_of,
    struct_of,
    trigger_of,
)
from portway.server.snapshot.explained import binding_message, layer_message
from portway.server.snapshot.freeze import Snapshot
from portway.server.snapshot.projection import Projection, Projections
from portway.server.snapshot.wire import permissions_message
from portway.server.state.types import Scope, StateSpace, StateValue
from portway.server.transcript.wire import CURSOR_EPOCH, transcript_stream
from portway.v1 import event_pb2, run_context_pb2, run_result_pb2, run_snapshot_pb2

_SCOPES = {
    Scope.CONVERSATION: run_result_pb2.STATE_SCOPE_CONVERSATION,
    Scope.ACTOR: run_result_pb2.STATE_SCOPE_ACTOR,
    Scope.SUBJECT: run_result_pb2.STATE_SCOPE_SUBJECT,
    Scope.RUNNER: run_result_pb2.STATE_SCOPE_RUNNER,
}
# Calls of the contract by the permission that they need; '' for those that every run may make.
CALLS = {
    "models_invoke": ("invoke_model",),
    "models_stream": ("stream_model",),
    "models_rerank": ("rerank_documents",),
    "models_embed": ("embed_texts",),
    "models_count_tokens": ("count_tokens",),
    "tools_detail": ("get_tool",),
    "tools_call": ("call_tool",),
    "history_page": ("page_history",),
    "history_search": ("search_history",),
    "events_get": ("get_event",),
    "events_page": ("page_events",),
    "artifacts_metadata": ("get_artifact",),
    "artifacts_read": ("read_artifact",),
    "artifacts_write": ("create_artifact",),
    "state": ("get_state", "set_state", "delete_state", "list_state"),
    "storage_plugin": ("get_storage", "set_storage", "delete_storage", "list_storage"),
    "prompt": ("get_prompt",),
}


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What runners are told of the host."""

    name: str
    version: str


class ContextWriter:
    """Writes contexts and snapshots."""

    def __init__(self, host: HostFacts, cursors: CursorCodec) -> None:
        self._host = host
        self._cursors = cursors
        self._projections = Projections()

    def context(
        self, run_id: str, event: event_pb2.Event, facts: EventFacts, place: Place, snapshot: Snapshot
    ) -> run_context_pb2.RunContext:
        """What is frozen: all but the attempt, its deadline and the state."""
        projection = self._projections.of(snapshot)
        context = run_context_pb2.RunContext(
            run_id=run_id,
            trigger=trigger_of(event, facts, place),
            event=event_of(event, place),
            conversation=conversation_of(facts, snapshot),
            input=input_of(event, facts),
            resources=resources_of(snapshot, projection),
            context=self._history(facts, place, snapshot),
            config=struct_of(snapshot.spec.config_json),
            agent_id=snapshot.agent_id,
            parent_run_id=place.parent_run_id,
            permissions=permissions_message(snapshot.permissions),
        )
        context.actor.CopyFrom(event.actor)
        if event.HasField("subject"):
            context.subject.CopyFrom(event.subject)
        context.delivery.surface = facts.surface
        context.delivery.reply_target = facts.reply_target or facts.launcher_id
        if event.HasField("capabilities"):
            context.delivery.capabilities.CopyFrom(event.capabilities)
        _limit_surface(context.delivery.capabilities, snapshot.spec.delivery_policy)
        context.adapter.platform = event.adapter.platform
        context.adapter.extra.CopyFrom(harmless(event.adapter.extra))
        self._runtime(context.runtime, snapshot, projection)
        return context

    def kept(self, snapshot: Snapshot, resolution: Resolution | None) -> run_snapshot_pb2.RunSnapshot:
        """What is kept beside the context, for explaining and for later attempts."""
        message = run_snapshot_pb2.RunSnapshot(state_scopes=[_SCOPES[scope] for scope in snapshot.state])
        message.MergeFrom(self._projections.of(snapshot).kept)
        message.layers.append(layer_message(snapshot.layers[2]))
        if resolution is not None:
            message.binding.CopyFrom(binding_message(resolution))
        return message

    def _runtime(self, runtime: run_context_pb2.RuntimeContext, snapshot: Snapshot, projection: Projection) -> None:
        runtime.host = self._host.name
        runtime.host_version = self._host.version
        runtime.protocol_version = PROTOCOL_VERSION
        runtime.locale = snapshot.spec.locale or "en"
        runtime.time_zone = snapshot.spec.time_zone or "UTC"
        runtime.static_refs.extend(projection.static_refs)
        budget_of(runtime, snapshot.spec.run_budget)

    def _history(self, facts: EventFacts, place: Place, snapshot: Snapshot) -> run_context_pb2.HistoryContext:
        stream = transcript_stream(facts.workspace_id, facts.conversation_id)
        before = place.item_sequence or 2**62
        allowed = snapshot.permissions.allowed
        calls = [call for permission, names in CALLS.items() if permission in allowed for call in names]
        if "steering" in snapshot.runner.capabilities:
            calls.append("pull_steering")
        return run_context_pb2.HistoryContext(
            conversation_id=facts.conversation_id,
            thread_id=facts.thread_id,
            latest_cursor=self._cursors.write(stream, Cursor(CURSOR_EPOCH, before)),
            event_sequence=place.event_sequence,
            transcript_sequence=place.item_sequence,
            has_history_before=place.item_sequence > 1,
            inline_mode=run_context_pb2.INLINE_MODE_CURRENT_EVENT,
            inline_count=1,
            inline_complete=place.item_sequence == 1,
            inline_reason="history is never inlined; pull it",
            available_calls=calls,
        )


def _limit_surface(surface: run_context_pb2.SurfaceCapabilities, policy: DeliveryPolicy) -> None:
    """What the surface can do and the agent may use."""
    if policy.streaming_disabled:
        surface.streaming = False
    if policy.max_message_size and not 0 < surface.max_message_size <= policy.max_message_size:
        surface.max_message_size = policy.max_message_size


def state_message(values: Mapping[StateSpace, Sequence[StateValue]]) -> run_context_pb2.StateSnapshot:
    """The state at the start of an attempt."""
    message = run_context_pb2.StateSnapshot()
    for space, kept in values.items():
        target = getattr(message, space.scope.value)
        for value in kept:
            target[value.key].value_json = value.value_json
            target[value.key].version = value.version
    return message
