"""The snapshot of a run as its first attempt froze it, for a later attempt."""

from google.protobuf.json_format import MessageToDict

from portway.server.agents.types import AgentSpec, InterruptedPolicy
from portway.server.effects.types import Idempotency
from portway.server.events.facts import EventFacts
from portway.server.models.types import Capability, ModelInfo, ModelKind
from portway.server.runtimes.runner import Runner
from portway.server.runtimes.wire import runner_of
from portway.server.snapshot.freeze import Snapshot, state_spaces
from portway.server.snapshot.grants import Layer
from portway.server.snapshot.wire import permissions_of
from portway.server.state.types import Scope
from portway.server.storage_engine.documents import from_json
from portway.server.tools.types import ToolSpec, ToolType
from portway.v1 import run_context_pb2, run_result_pb2, run_snapshot_pb2

_SCOPES = {
    run_result_pb2.STATE_SCOPE_CONVERSATION: Scope.CONVERSATION,
    run_result_pb2.STATE_SCOPE_ACTOR: Scope.ACTOR,
    run_result_pb2.STATE_SCOPE_SUBJECT: Scope.SUBJECT,
    run_result_pb2.STATE_SCOPE_RUNNER: Scope.RUNNER,
}


def restore(kept: bytes, context: run_context_pb2.RunContext, facts: EventFacts) -> Snapshot:
    """Exactly what was granted: nothing of today's agent, manifest or models enters."""
    message = run_snapshot_pb2.RunSnapshot.FromString(kept)
    spec = from_json(AgentSpec, message.agent_spec_json)
    scopes = tuple(_SCOPES[number] for number in message.state_scopes)
    return Snapshot(
        agent_id=context.agent_id,
        agent_revision=message.agent_revision,
        spec=spec,
        runner=runner_of(message.manifest),
        layers=tuple(Layer(one.name, permissions_of(one.permissions), tuple(one.removed)) for one in message.layers),
        permissions=permissions_of(context.permissions),
        models={model.model_id: _model(model) for model in context.resources.models},
        tools={tool.name: _tool(tool) for tool in context.resources.tools},
        state=state_spaces(scopes, facts, context.agent_id),
        session_id=context.conversation.session_id,
        thread_id=context.conversation.thread_id,
        skills=tuple(skill.name for skill in context.resources.skills),
    )


def interrupted_policy(kept: bytes) -> InterruptedPolicy:
    """What becomes of the run when its attempt is cut off, by the snapshot of its first attempt."""
    message = run_snapshot_pb2.RunSnapshot.FromString(kept)
    return policy_when_interrupted(from_json(AgentSpec, message.agent_spec_json), runner_of(message.manifest))


def policy_when_interrupted(spec: AgentSpec, runner: Runner) -> InterruptedPolicy:
    """What the agent says, else the runner, else FAIL."""
    own = spec.on_interrupted
    if own is not InterruptedPolicy.RUNNER:
        return own
    if runner.on_interrupted:
        return InterruptedPolicy(runner.on_interrupted)
    return InterruptedPolicy.RETRY if runner.retry_safe else InterruptedPolicy.FAIL


def _model(model: run_context_pb2.ModelResource) -> ModelInfo:
    capabilities = {
        Capability.IMAGES: model.vision,
        Capability.TOOLS: model.tool_calling,
        Capability.REASONING: model.reasoning,
    }
    return ModelInfo(
        model_id=model.model_id,
        name=model.model_id,
        provider_id=model.provider,
        provider_kind="",
        kind=ModelKind(model.type),
        context_window=model.context_window or None,
        capabilities=frozenset(name for name, has in capabilities.items() if has),
        max_output_tokens=model.max_output_tokens or None,
    )


def _tool(tool: run_context_pb2.ToolResource) -> ToolSpec:
    return ToolSpec(
        name=tool.name,
        type=ToolType(tool.type),
        description=tool.description,
        input_schema=MessageToDict(tool.parameters),
        # Not kept: whoever calls the tool asks its source, and the careful class stands until then.
        idempotency=Idempotency.NOT_IDEMPOTENT,
    )
