"""How a binding was found and what each layer left, as people see it."""

from portway.server.bindings.types import BindingScope
from portway.server.events.routing import Resolution
from portway.server.snapshot.grants import Layer
from portway.server.snapshot.wire import permissions_message
from portway.v1 import binding_pb2, run_pb2

MAX_CANDIDATES = 200

_SCOPES = {
    BindingScope.GLOBAL: binding_pb2.BINDING_SCOPE_GLOBAL,
    BindingScope.WORKSPACE: binding_pb2.BINDING_SCOPE_WORKSPACE,
    BindingScope.BOT: binding_pb2.BINDING_SCOPE_BOT,
    BindingScope.CHANNEL: binding_pb2.BINDING_SCOPE_CHANNEL,
    BindingScope.CONVERSATION: binding_pb2.BINDING_SCOPE_CONVERSATION,
}


def binding_message(resolution: Resolution) -> binding_pb2.BindingExplanation:
    return binding_pb2.BindingExplanation(
        binding_id=resolution.binding_id,
        agent_id=resolution.agent_id,
        reason=resolution.reason,
        ambiguous_binding_ids=resolution.ambiguous,
        candidates=[
            binding_pb2.BindingCandidate(
                binding_id=one.binding_id,
                agent_id=one.agent_id,
                scope=_SCOPES[one.scope],
                fits=one.fits,
                reason=one.reason,
            )
            for one in resolution.candidates[:MAX_CANDIDATES]
        ],
    )


def layer_message(layer: Layer) -> run_pb2.AuthorizationLayer:
    return run_pb2.AuthorizationLayer(
        name=layer.name, permissions=permissions_message(layer.permissions), removed=layer.removed
    )
