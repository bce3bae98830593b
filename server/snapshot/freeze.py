"""The third layer: what is left of an agent's grants for one event. The result is frozen with the run."""

from dataclasses import dataclass
from enum import StrEnum

from portway.rpc.errors import InvalidInput, WrongState
from portway.server.agents.types import AgentSpec
from portway.server.approvals.approvers import anybody_decides
from portway.server.events.facts import EventFacts
from portway.server.models.types import ModelInfo
from portway.server.runtimes.runner import Runner
from portway.server.snapshot.grants import Grants, Layer
from portway.server.snapshot.permissions import HistoryScope, Narrowing, Permissions
from portway.server.state.types import Scope, StateSpace
from portway.server.tools.session_name import SessionFacts, session_name
from portway.server.tools.types import ToolSpec, ToolType

_BOX = frozenset({"box_exec", "box_processes"})


class StorageArea(StrEnum):
    """Whose bytes a run may keep."""

    PLUGIN = "plugin"
    WORKSPACE = "workspace"
    BINDING = "binding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one run may touch. Handlers ask it with one look and compute nothing again.

    `session_id` is '' where the run has no box; `state` holds the scopes that the event has.
    """

    agent_id: str
    agent_revision: int
    spec: AgentSpec
    runner: Runner
    layers: tuple[Layer, ...]
    permissions: Permissions
    models: dict[str, ModelInfo]
    tools: dict[str, ToolSpec]
    state: dict[Scope, StateSpace]
    session_id: str
    thread_id: str
    skills: tuple[str, ...] = ()


def freeze(grants: Grants, facts: EventFacts, event_id: str, surface_actions: frozenset[str] = frozenset()) -> Snapshot:
    """`facts` name the conversation by now; `surface_actions` are what the place of the reply can do."""
    agent, spec = grants.agent, grants.agent.spec
    narrowing = Narrowing(grants.policy.permissions)
    session_id, tools = "", grants.tools
    if spec.box_policy.tools:
        try:
            session_id = _session_name(spec.box_policy.session_template, agent.agent_id, facts, event_id)
        except (InvalidInput, WrongState) as error:
            narrowing.take(_BOX, error.message)
            tools = tuple(tool for tool in tools if tool.type is not ToolType.NATIVE)
            narrowing.removed.append(f"tools of the box: {error.message}")
    if not facts.delivers and not facts.expects_reply:
        narrowing.take(frozenset({"interactions_request"}), "the event has no place of reply")
    if not anybody_decides(spec.approval_policy, facts.actor_id):
        narrowing.take(frozenset({"approvals_request"}), "the agent's approval policy names nobody who could decide")
    narrowing.keep_actions(surface_actions, "the surface cannot")
    if facts.thread_id and narrowing.result().history_scope is HistoryScope.THREAD:
        narrowing.removed.append(f"history outside of the thread {facts.thread_id}")
    state = _state(grants, facts, narrowing)
    layer = Layer("event", narrowing.result(), tuple(narrowing.removed))
    return Snapshot(
        agent_id=agent.agent_id,
        agent_revision=agent.revision,
        spec=spec,
        runner=grants.runner,
        layers=(grants.manifest, grants.policy, layer),
        permissions=layer.permissions,
        models={model.model_id: model for model in grants.models},
        tools={tool.name: tool for tool in tools},
        state=state,
        session_id=session_id,
        thread_id=facts.thread_id,
        skills=grants.skills,
    )


def _session_name(template: str, agent_id: str, facts: EventFacts, event_id: str) -> str:
    known = SessionFacts(
        launcher_type=facts.launcher_type,
        launcher_id=facts.launcher_id,
        sender_id=facts.actor_id,
        conversation_id=facts.conversation_id,
        thread_id=facts.thread_id,
        event_id=event_id,
    )
    return session_name(facts.workspace_id, agent_id, template, known)


def _state(grants: Grants, facts: EventFacts, narrowing: Narrowing) -> dict[Scope, StateSpace]:
    spaces = state_spaces(grants.state_scopes, facts, grants.agent.agent_id)
    missing = [scope.value for scope in grants.state_scopes if scope not in spaces]
    if missing:
        narrowing.removed.append(f"state of {', '.join(missing)}: the event names none")
    return spaces


def state_spaces(scopes: tuple[Scope, ...], facts: EventFacts, agent_id: str) -> dict[Scope, StateSpace]:
    """A scope whose identity the event lacks does not exist."""
    keys = {
        Scope.CONVERSATION: joined(facts.conversation_id, facts.thread_id) if facts.conversation_id else "",
        Scope.ACTOR: joined(facts.surface, facts.bot_id, facts.actor_id) if facts.actor_id else "",
        Scope.SUBJECT: joined(facts.subject_type, facts.subject_id) if facts.subject_id else "",
    }
    return {
        scope: StateSpace(facts.workspace_id, agent_id, scope, keys.get(scope, ""))
        for scope in scopes
        if scope is Scope.RUNNER or keys[scope]
    }


def joined(*parts: str) -> str:
    """The key of a scope: its parts cannot run into one another."""
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in parts)
