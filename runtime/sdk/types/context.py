"""What a run is given at its start. Everything is read-only; history is pulled, never inlined."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Annotated, Any

from portway.runtime.sdk.types.content import ArtifactRef, WirePart
from portway.runtime.sdk.types.convert import Codec, Json, as_enum
from portway.runtime.sdk.types.interactions import InteractionAnswer, InteractionKind
from portway.runtime.sdk.types.resources import RunResources
from portway.runtime.sdk.types.usage import Budget
from portway.v1 import run_context_pb2 as pb
from portway.v1 import runner_pb2


class TriggerSource(IntEnum):
    UNSPECIFIED = pb.TRIGGER_SOURCE_UNSPECIFIED
    PLATFORM = pb.TRIGGER_SOURCE_PLATFORM
    WEBUI = pb.TRIGGER_SOURCE_WEBUI
    API = pb.TRIGGER_SOURCE_API
    SCHEDULER = pb.TRIGGER_SOURCE_SCHEDULER
    SYSTEM = pb.TRIGGER_SOURCE_SYSTEM
    ADAPTER = pb.TRIGGER_SOURCE_ADAPTER


@dataclass(frozen=True, slots=True)
class Trigger:
    """What set the run off."""

    type: str = ""
    source: TriggerSource = TriggerSource.UNSPECIFIED
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class EventContext:
    """The event. `source_event_type` is the platform's own name for it."""

    event_id: str = ""
    type: str = ""
    time: datetime | None = None
    source: str = ""
    source_event_type: str = ""
    raw_ref: ArtifactRef | None = None
    data: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConversationContext:
    """Where the run belongs. `session_id` names the box session, empty where there is none."""

    conversation_id: str = ""
    thread_id: str = ""
    launcher_type: str = ""
    launcher_id: str = ""
    sender_id: str = ""
    bot_id: str = ""
    workspace_id: str = ""
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it."""

    type: str = ""
    id: str = ""
    name: str = ""
    metadata: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """What it was done to."""

    type: str = ""
    id: str = ""
    data: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunInput:
    """What was said. `text` is the text of all text parts."""

    text: str = ""
    contents: tuple[WirePart, ...] = ()
    attachments: tuple[ArtifactRef, ...] = ()
    interaction: InteractionAnswer | None = None


@dataclass(frozen=True, slots=True)
class SurfaceCapabilities:
    """What the place of the reply can do; a `max_message_size` of 0 is no known limit."""

    streaming: bool = False
    edit: bool = False
    reaction: bool = False
    typing: bool = False
    max_message_size: int = 0
    size_unit: str = ""
    interactions: tuple[InteractionKind, ...] = ()
    platform_actions: tuple[str, ...] = ()
    markdown: bool = False


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """Where the reply goes."""

    surface: str = ""
    reply_target: str = ""
    capabilities: SurfaceCapabilities = field(default_factory=SurfaceCapabilities)


class InlineMode(IntEnum):
    UNSPECIFIED = pb.INLINE_MODE_UNSPECIFIED
    NONE = pb.INLINE_MODE_NONE
    CURRENT_EVENT = pb.INLINE_MODE_CURRENT_EVENT
    RECENT_TAIL = pb.INLINE_MODE_RECENT_TAIL
    SUMMARY_TAIL = pb.INLINE_MODE_SUMMARY_TAIL


@dataclass(frozen=True, slots=True)
class HistoryContext:
    """What there is to pull: page backwards from `latest_cursor`."""

    conversation_id: str = ""
    thread_id: str = ""
    latest_cursor: str = ""
    event_sequence: int = 0
    transcript_sequence: int = 0
    has_history_before: bool = False
    inline_mode: InlineMode = InlineMode.UNSPECIFIED
    inline_count: int = 0
    inline_complete: bool = False
    inline_reason: str = ""
    available_calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StateValue:
    """A value of the state, as JSON holds it; `version` counts from 1."""

    value: Any = None
    version: int = 0


def _read_state(message: pb.StateValue) -> StateValue:
    return StateValue(json.loads(message.value_json) if message.value_json else None, message.version)


def _write_state(value: StateValue, message: pb.StateValue) -> None:
    message.value_json = json.dumps(value.value)
    message.version = value.version


STATE_VALUE = Codec(_read_state, _write_state)
_States = Mapping[str, Annotated[StateValue, STATE_VALUE]]


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """The state at the start of the run, by key."""

    conversation: _States = field(default_factory=dict)
    actor: _States = field(default_factory=dict)
    subject: _States = field(default_factory=dict)
    runner: _States = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StaticRef:
    """A piece of context that changes seldom, so that a prompt cache can stay warm."""

    name: str = ""
    hash: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeContext:
    """Where and under which limits the run executes."""

    host: str = ""
    host_version: str = ""
    protocol_version: int = 0
    trace_id: str = ""
    deadline: datetime | None = None
    locale: str = ""
    time_zone: str = ""
    static_refs: tuple[StaticRef, ...] = ()
    budget: Budget | None = None
    metadata: Json = field(default_factory=dict)
    model_gateway_url: str = ""
    bridge_url: str = ""


@dataclass(frozen=True, slots=True)
class AdapterContext:
    """One-off metadata of the entry."""

    platform: str = ""
    extra: Json = field(default_factory=dict)


class HistoryScope(IntEnum):
    UNSPECIFIED = runner_pb2.HISTORY_SCOPE_UNSPECIFIED
    THREAD = runner_pb2.HISTORY_SCOPE_THREAD
    CONVERSATION = runner_pb2.HISTORY_SCOPE_CONVERSATION
    WORKSPACE = runner_pb2.HISTORY_SCOPE_WORKSPACE


@dataclass(frozen=True, slots=True)
class Permissions:
    """The permissions in force, by their names in a manifest with `_` for `.`: `models_stream`, `state`, …"""

    granted: frozenset[str] = frozenset()
    history_scope: HistoryScope = HistoryScope.CONVERSATION
    platform_actions: tuple[str, ...] = ()

    def allow(self, name: str) -> bool:
        return name in self.granted


def _read_permissions(message: runner_pb2.RunnerPermissions) -> Permissions:
    granted = frozenset(field.name for field, value in message.ListFields() if value is True)
    return Permissions(granted, as_enum(HistoryScope, message.history_scope), tuple(message.platform_actions))


def _write_permissions(value: Permissions, message: runner_pb2.RunnerPermissions) -> None:
    for name in value.granted:
        setattr(message, name, True)
    message.history_scope = value.history_scope.value
    message.platform_actions.extend(value.platform_actions)


@dataclass(frozen=True, slots=True)
class RunContext:
    """Everything a runner is given. `config` is the agent's configuration of this runner; `attempt` counts from 1."""

    run_id: str = ""
    trigger: Trigger = field(default_factory=Trigger)
    event: EventContext = field(default_factory=EventContext)
    conversation: ConversationContext = field(default_factory=ConversationContext)
    actor: Actor = field(default_factory=Actor)
    subject: Subject = field(default_factory=Subject)
    input: RunInput = field(default_factory=RunInput)
    delivery: DeliveryContext = field(default_factory=DeliveryContext)
    resources: RunResources = field(default_factory=RunResources)
    context: HistoryContext = field(default_factory=HistoryContext)
    state: StateSnapshot = field(default_factory=StateSnapshot)
    runtime: RuntimeContext = field(default_factory=RuntimeContext)
    config: Json = field(default_factory=dict)
    adapter: AdapterContext = field(default_factory=AdapterContext)
    attempt: int = 1
    agent_id: str = ""
    parent_run_id: str = ""
    permissions: Annotated[Permissions, Codec(_read_permissions, _write_permissions)] = field(
        default_factory=Permissions
    )
    metadata: Json = field(default_factory=dict)
