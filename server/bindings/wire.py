"""Between bindings and their messages."""

from dataclasses import dataclass

from portway.server.agents.wire import MANAGED_BY
from portway.server.bindings.types import Binding, BindingFilters, BindingScope, BindingSpec
from portway.server.events.routing import Resolution
from portway.v1 import binding_pb2

_SCOPES = {
    BindingScope.GLOBAL: binding_pb2.BINDING_SCOPE_GLOBAL,
    BindingScope.WORKSPACE: binding_pb2.BINDING_SCOPE_WORKSPACE,
    BindingScope.BOT: binding_pb2.BINDING_SCOPE_BOT,
    BindingScope.CHANNEL: binding_pb2.BINDING_SCOPE_CHANNEL,
    BindingScope.CONVERSATION: binding_pb2.BINDING_SCOPE_CONVERSATION,
}
_FROM_SCOPES = {number: scope for scope, number in _SCOPES.items()}


@dataclass(frozen=True, slots=True)
class Draft:
    """A binding as somebody wants it. `binding_id` '' for a new one."""

    binding_id: str
    revision: int
    spec: BindingSpec


def draft_of(message: binding_pb2.Binding) -> Draft:
    """What a message wants. Without a scope it is the workspace."""
    filters = message.filters
    spec = BindingSpec(
        agent_id=message.agent_id,
        scope=_FROM_SCOPES.get(message.scope, BindingScope.WORKSPACE),
        scope_id=message.scope_id,
        event_types=tuple(message.event_types),
        filters=BindingFilters(
            sender_ids=tuple(filters.sender_ids),
            group_ids=tuple(filters.group_ids),
            prefix=filters.prefix,
            mention=filters.mention,
            pattern=filters.pattern,
            surfaces=tuple(filters.surfaces),
        ),
        disabled=message.disabled,
    )
    return Draft(message.binding_id, message.revision, spec)


def binding_message(binding: Binding) -> binding_pb2.Binding:
    """A binding as callers see it."""
    spec, filters = binding.spec, binding.spec.filters
    message = binding_pb2.Binding(
        binding_id=binding.binding_id,
        scope=_SCOPES[spec.scope],
        scope_id=spec.scope_id,
        event_types=spec.event_types,
        filters=binding_pb2.BindingFilters(
            sender_ids=filters.sender_ids,
            group_ids=filters.group_ids,
            prefix=filters.prefix,
            mention=filters.mention,
            pattern=filters.pattern,
            surfaces=filters.surfaces,
        ),
        agent_id=spec.agent_id,
        disabled=spec.disabled,
        managed_by=MANAGED_BY[binding.managed_by],
        revision=binding.revision,
    )
    message.create_time.FromMicroseconds(binding.create_time)
    message.update_time.FromMicroseconds(binding.update_time)
    return message


def explanation_message(resolution: Resolution) -> binding_pb2.BindingExplanation:
    """How a binding was found."""
    return binding_pb2.BindingExplanation(
        binding_id=resolution.binding_id,
        agent_id=resolution.agent_id,
        candidates=[
            binding_pb2.BindingCandidate(
                binding_id=one.binding_id,
                agent_id=one.agent_id,
                scope=_SCOPES[one.scope],
                fits=one.fits,
                reason=one.reason,
            )
            for one in resolution.candidates
        ],
        reason=resolution.reason,
        ambiguous_binding_ids=resolution.ambiguous,
    )
