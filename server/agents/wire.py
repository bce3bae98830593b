"""Between agents and their messages. A field that is not set takes the default that its comment names."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict, ParseDict, SerializeToJsonError
from google.protobuf.struct_pb2 import Struct

from portway.rpc.errors import InvalidInput
from portway.server.agents.types import (
    Agent,
    AgentSpec,
    ApprovalPolicy,
    BoxNetwork,
    BoxPolicy,
    Budget,
    DeliveryPolicy,
    EditPolicy,
    HistoryScope,
    InboundGuards,
    InterruptedPolicy,
    ManagedBy,
    ModelAlias,
    NoticeTexts,
    QueuePolicy,
    ResourcePolicy,
    RetryPolicy,
    SharedFolder,
    StatePolicy,
)
from portway.v1 import agent_pb2, binding_pb2, run_result_pb2, runner_pb2, session_pb2, usage_pb2

MICROSECONDS = 1_000_000

MANAGED_BY = {
    ManagedBy.API: binding_pb2.MANAGED_BY_API,
    ManagedBy.CONFIG: binding_pb2.MANAGED_BY_CONFIG,
    ManagedBy.HOST: binding_pb2.MANAGED_BY_HOST,
}
_QUEUE = {
    QueuePolicy.QUEUE: agent_pb2.QUEUE_POLICY_QUEUE,
    QueuePolicy.STEER: agent_pb2.QUEUE_POLICY_STEER,
    QueuePolicy.INTERRUPT: agent_pb2.QUEUE_POLICY_INTERRUPT,
    QueuePolicy.REJECT: agent_pb2.QUEUE_POLICY_REJECT,
}
_EDIT = {
    EditPolicy.STEER: agent_pb2.EDIT_POLICY_STEER,
    EditPolicy.SUPERSEDE: agent_pb2.EDIT_POLICY_SUPERSEDE,
    EditPolicy.IGNORE: agent_pb2.EDIT_POLICY_IGNORE,
}
_INTERRUPTED = {
    InterruptedPolicy.RUNNER: runner_pb2.INTERRUPTED_POLICY_UNSPECIFIED,
    InterruptedPolicy.RETRY: runner_pb2.INTERRUPTED_POLICY_RETRY,
    InterruptedPolicy.FAIL: runner_pb2.INTERRUPTED_POLICY_FAIL,
}
_HISTORY = {
    HistoryScope.THREAD: runner_pb2.HISTORY_SCOPE_THREAD,
    HistoryScope.CONVERSATION: runner_pb2.HISTORY_SCOPE_CONVERSATION,
    HistoryScope.WORKSPACE: runner_pb2.HISTORY_SCOPE_WORKSPACE,
}
_SCOPES = {
    "conversation": run_result_pb2.STATE_SCOPE_CONVERSATION,
    "actor": run_result_pb2.STATE_SCOPE_ACTOR,
    "subject": run_result_pb2.STATE_SCOPE_SUBJECT,
    "runner": run_result_pb2.STATE_SCOPE_RUNNER,
}
_NETWORK = {
    "": session_pb2.NETWORK_MODE_UNSPECIFIED,
    "off": session_pb2.NETWORK_MODE_OFF,
    "on": session_pb2.NETWORK_MODE_ON,
    "allow_list": session_pb2.NETWORK_MODE_ALLOW_LIST,
}
_FROM_QUEUE = {number: policy for policy, number in _QUEUE.items()}
_FROM_EDIT = {number: policy for policy, number in _EDIT.items()}
_FROM_INTERRUPTED = {number: policy for policy, number in _INTERRUPTED.items()}
_FROM_HISTORY = {number: scope for scope, number in _HISTORY.items()}
_FROM_SCOPES = {number: scope for scope, number in _SCOPES.items()}
_FROM_NETWORK = {number: mode for mode, number in _NETWORK.items()}
_DEFAULTS = AgentSpec(name="", runner_id="")


@dataclass(frozen=True, slots=True)
class Draft:
    """An agent as somebody wants it. `config` is apart from the spec, because its secrets are."""

    agent_id: str
    revision: int
    spec: AgentSpec
    config: Mapping[str, object]


def draft_of(message: agent_pb2.Agent) -> Draft:
    """What a message wants."""
    spec = AgentSpec(
        name=message.name,
        runner_id=message.runner_id,
        description=message.description,
        resource_policy=_resource_policy(message.resource_policy),
        state_policy=_state_policy(message.state_policy),
        delivery_policy=_delivery_policy(message.delivery_policy),
        box_policy=_box_policy(message.box_policy),
        event_types=tuple(message.event_types) or _DEFAULTS.event_types,
        queue_policy=_FROM_QUEUE.get(message.queue_policy, QueuePolicy.QUEUE),
        timeout_seconds=_seconds(message, "timeout", _DEFAULTS.timeout_seconds),
        retry_policy=RetryPolicy(
            max_attempts=message.retry_policy.max_attempts or 1,
            first_delay_seconds=_seconds(message.retry_policy, "first_delay", 1.0),
        ),
        on_interrupted=_FROM_INTERRUPTED.get(message.on_interrupted, InterruptedPolicy.RUNNER),
        edit_policy=_FROM_EDIT.get(message.edit_policy, EditPolicy.STEER),
        guards=_guards(message.guards),
        notices=NoticeTexts(
            failed=dict(message.notices.failed),
            interrupted=dict(message.notices.interrupted),
            refused=dict(message.notices.refused),
            waiting=dict(message.notices.waiting),
            cancelled=dict(message.notices.cancelled),
        ),
        run_budget=_budget(message.run_budget),
        budget=_budget(message.budget),
        conversation_budget=_budget(message.conversation_budget),
        model_aliases=tuple(ModelAlias(one.pattern, one.model_id) for one in message.model_aliases),
        conversation_idle_seconds=_seconds(message, "conversation_idle", 0.0),
        disabled=message.disabled,
        locale=message.locale or _DEFAULTS.locale,
        time_zone=message.time_zone or _DEFAULTS.time_zone,
        approval_policy=_approval_policy(message.approval_policy),
    )
    return Draft(message.agent_id, message.revision, spec, plain_config(message.config))


def plain_config(config: Struct) -> dict[str, object]:
    """A configuration as JSON values; whole numbers as such, which the wire does not know. Raises InvalidInput."""
    try:
        values = MessageToDict(config)
    except SerializeToJsonError:
        raise InvalidInput.field(
            "agent.config", "holds a number that is not finite, which JSON does not know"
        ) from None
    found: dict[str, object] = json.loads(json.dumps(values), parse_float=_number)
    return found


def agent_message(agent: Agent, config: Mapping[str, object]) -> agent_pb2.Agent:
    """An agent as callers see it. `config` is what may be shown."""
    spec = agent.spec
    message = agent_pb2.Agent(
        agent_id=agent.agent_id,
        name=spec.name,
        description=spec.description,
        runner_id=spec.runner_id,
        event_types=spec.event_types,
        queue_policy=_QUEUE[spec.queue_policy],
        timeout=_duration(spec.timeout_seconds),
        on_interrupted=_INTERRUPTED[spec.on_interrupted],
        edit_policy=_EDIT[spec.edit_policy],
        conversation_idle=_duration(spec.conversation_idle_seconds),
        disabled=spec.disabled,
        managed_by=MANAGED_BY[agent.managed_by],
        revision=agent.revision,
        locale=spec.locale,
        time_zone=spec.time_zone,
    )
    ParseDict(dict(config), message.config)
    message.create_time.FromMicroseconds(agent.create_time)
    message.update_time.FromMicroseconds(agent.update_time)
    _put_policies(message, spec)
    return message


def _put_policies(message: agent_pb2.Agent, spec: AgentSpec) -> None:
    resources, delivery, box, guards = spec.resource_policy, spec.delivery_policy, spec.box_policy, spec.guards
    message.resource_policy.CopyFrom(
        agent_pb2.ResourcePolicy(
            model_ids=resources.model_ids,
            tools=resources.tools,
            denied_tools=resources.denied_tools,
            knowledge_base_ids=resources.knowledge_base_ids,
            skills=resources.skills,
            file_ids=resources.file_ids,
            storage_plugin=resources.storage_plugin,
            storage_workspace=resources.storage_workspace,
            storage_binding=resources.storage_binding,
            history_scope=_HISTORY[resources.history_scope],
            approved_tools=resources.approved_tools,
        )
    )
    message.state_policy.disabled = spec.state_policy.disabled
    message.state_policy.scopes.extend(_SCOPES[scope] for scope in spec.state_policy.scopes)
    message.delivery_policy.CopyFrom(
        agent_pb2.DeliveryPolicy(
            streaming_disabled=delivery.streaming_disabled,
            reply_disabled=delivery.reply_disabled,
            max_message_size=delivery.max_message_size,
            interactions_disabled=delivery.interactions_disabled,
            platform_actions=delivery.platform_actions,
            approved_actions=delivery.approved_actions,
            default_conversation_id=delivery.default_conversation_id,
            delivery_ttl=_duration(delivery.delivery_ttl_seconds),
        )
    )
    message.box_policy.CopyFrom(
        agent_pb2.BoxPolicy(
            tools=box.tools,
            profile=box.profile,
            network=session_pb2.NetworkPolicy(mode=_NETWORK[box.network.mode], allow=box.network.allow),
            read_only=box.read_only,
            approved_commands=box.approved_commands,
            session_template=box.session_template,
            image=box.image,
            mounts=[_mount(one) for one in box.mounts],
        )
    )
    message.guards.CopyFrom(
        agent_pb2.InboundGuards(
            allowed_sender_ids=guards.allowed_sender_ids,
            denied_sender_ids=guards.denied_sender_ids,
            allowed_group_ids=guards.allowed_group_ids,
            denied_group_ids=guards.denied_group_ids,
            messages_per_window=guards.messages_per_window,
            window=_duration(guards.window_seconds),
            denied_inbound_patterns=guards.denied_inbound_patterns,
            masked_outbound_patterns=guards.masked_outbound_patterns,
        )
    )
    message.retry_policy.max_attempts = spec.retry_policy.max_attempts
    message.retry_policy.first_delay.CopyFrom(_duration(spec.retry_policy.first_delay_seconds))
    for name in ("failed", "interrupted", "refused", "waiting", "cancelled"):
        getattr(message.notices, name).update(getattr(spec.notices, name))
    message.approval_policy.CopyFrom(
        agent_pb2.ApprovalPolicy(
            approver_ids=spec.approval_policy.approver_ids,
            sender=spec.approval_policy.sender,
            operators_excluded=spec.approval_policy.operators_excluded,
            time_limit=_duration(spec.approval_policy.time_limit_seconds),
        )
    )
    message.run_budget.CopyFrom(budget_message(spec.run_budget))
    message.budget.CopyFrom(budget_message(spec.budget))
    message.conversation_budget.CopyFrom(budget_message(spec.conversation_budget))
    message.model_aliases.extend(
        agent_pb2.ModelAlias(pattern=one.pattern, model_id=one.model_id) for one in spec.model_aliases
    )


def _resource_policy(message: agent_pb2.ResourcePolicy) -> ResourcePolicy:
    return ResourcePolicy(
        model_ids=tuple(message.model_ids),
        tools=tuple(message.tools),
        denied_tools=tuple(message.denied_tools),
        knowledge_base_ids=tuple(message.knowledge_base_ids),
        skills=tuple(message.skills),
        file_ids=tuple(message.file_ids),
        storage_plugin=message.storage_plugin if message.HasField("storage_plugin") else True,
        storage_workspace=message.storage_workspace,
        storage_binding=message.storage_binding,
        history_scope=_FROM_HISTORY.get(message.history_scope, HistoryScope.CONVERSATION),
        approved_tools=tuple(message.approved_tools),
    )


def _approval_policy(message: agent_pb2.ApprovalPolicy) -> ApprovalPolicy:
    return ApprovalPolicy(
        approver_ids=tuple(message.approver_ids),
        sender=message.sender,
        operators_excluded=message.operators_excluded,
        time_limit_seconds=_seconds(message, "time_limit", ApprovalPolicy().time_limit_seconds),
    )


def _state_policy(message: agent_pb2.StatePolicy) -> StatePolicy:
    scopes = tuple(dict.fromkeys(_FROM_SCOPES[number] for number in message.scopes))
    return StatePolicy(disabled=message.disabled, scopes=scopes or StatePolicy().scopes)


def _delivery_policy(message: agent_pb2.DeliveryPolicy) -> DeliveryPolicy:
    return DeliveryPolicy(
        streaming_disabled=message.streaming_disabled,
        reply_disabled=message.reply_disabled,
        max_message_size=message.max_message_size,
        interactions_disabled=message.interactions_disabled,
        platform_actions=tuple(message.platform_actions),
        approved_actions=tuple(message.approved_actions),
        default_conversation_id=message.default_conversation_id,
        delivery_ttl_seconds=_seconds(message, "delivery_ttl", DeliveryPolicy().delivery_ttl_seconds),
    )


def _box_policy(message: agent_pb2.BoxPolicy) -> BoxPolicy:
    return BoxPolicy(
        tools=tuple(message.tools),
        profile=message.profile,
        network=BoxNetwork(mode=_FROM_NETWORK[message.network.mode], allow=tuple(message.network.allow)),
        read_only=message.read_only,
        approved_commands=tuple(message.approved_commands),
        session_template=message.session_template,
        image=message.image,
        mounts=tuple(
            SharedFolder(one.source, one.target, one.mode == session_pb2.MOUNT_MODE_READ_WRITE)
            for one in message.mounts
        ),
    )


def _mount(folder: SharedFolder) -> session_pb2.Mount:
    mode = session_pb2.MOUNT_MODE_READ_WRITE if folder.writable else session_pb2.MOUNT_MODE_READ_ONLY
    return session_pb2.Mount(source=folder.source, target=folder.target, mode=mode)


def _guards(message: agent_pb2.InboundGuards) -> InboundGuards:
    return InboundGuards(
        allowed_sender_ids=tuple(message.allowed_sender_ids),
        denied_sender_ids=tuple(message.denied_sender_ids),
        allowed_group_ids=tuple(message.allowed_group_ids),
        denied_group_ids=tuple(message.denied_group_ids),
        messages_per_window=message.messages_per_window,
        window_seconds=_seconds(message, "window", InboundGuards().window_seconds),
        denied_inbound_patterns=tuple(message.denied_inbound_patterns),
        masked_outbound_patterns=tuple(message.masked_outbound_patterns),
    )


def _budget(message: usage_pb2.Budget) -> Budget:
    return Budget(
        cost_micros=message.cost_micros if message.HasField("cost_micros") else None,
        currency=message.currency,
        tokens=message.tokens if message.HasField("tokens") else None,
        calls=message.calls if message.HasField("calls") else None,
        bytes=message.bytes if message.HasField("bytes") else None,
        seconds=_seconds(message, "time", 0.0) if message.HasField("time") else None,
    )


def budget_message(budget: Budget) -> usage_pb2.Budget:
    """A budget as callers see it."""
    message = usage_pb2.Budget(
        cost_micros=budget.cost_micros,
        currency=budget.currency,
        tokens=budget.tokens,
        calls=budget.calls,
        bytes=budget.bytes,
    )
    if budget.seconds is not None:
        message.time.CopyFrom(_duration(budget.seconds))
    return message


def _seconds(message: object, field: str, default: float) -> float:
    if not message.HasField(field):  # type: ignore[attr-defined]  # any message with a duration
        return default
    duration: Duration = getattr(message, field)
    return duration.ToMicroseconds() / MICROSECONDS


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(round(seconds * MICROSECONDS))
    return duration


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number
