"""The first two layers of a run's authorization: what the manifest permits, and what the agent's policy leaves of it.

They are the same for every event, so they are computed once per revision of the agent and version of the manifest.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from portway.rpc.errors import InvalidInput, Reason, WrongState
from portway.server.agents.types import Agent, AgentSpec
from portway.server.models.errors import ModelError
from portway.server.models.registry import ModelRegistry, WorkspaceModels
from portway.server.models.types import ModelInfo
from portway.server.runtimes.runner import Runner
from portway.server.skills.names import READING_TOOLS, REGISTER
from portway.server.snapshot.permissions import PRECONDITIONS, HistoryScope, Narrowing, Permissions
from portway.server.snapshot.selected import selected_by
from portway.server.state.types import Scope
from portway.server.tools.native_specs import chosen
from portway.server.tools.registry import RegisteredTool, ToolRegistry
from portway.server.tools.types import ToolSpec, ToolType

_MODELS = frozenset({"models_invoke", "models_stream", "models_rerank", "models_embed", "models_count_tokens"})
_TOOLS = PRECONDITIONS["tool_calling"]
_KNOWLEDGE = PRECONDITIONS["knowledge_retrieval"]
_BOX = frozenset({"box_exec", "box_processes"})
_FILES = frozenset({"files_config", "files_knowledge"})


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: what is permitted after it, and what it took away, for people."""

    name: str
    permissions: Permissions
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grants:
    """What every run of an agent may touch at most. Models and tools in the order in which runners should see them."""

    agent: Agent
    runner: Runner
    config: Mapping[str, object]
    manifest: Layer
    policy: Layer
    models: tuple[ModelInfo, ...]
    tools: tuple[ToolSpec, ...]
    state_scopes: tuple[Scope, ...]
    skills: tuple[str, ...] = ()


_Kept = tuple[Sequence[RegisteredTool], ModelRegistry, Grants]


class GrantBook:
    """Computes grants and keeps the last ones of each agent."""

    def __init__(self, models: WorkspaceModels, tools: ToolRegistry, capacity: int = 1_000) -> None:
        self._models = models
        self._tools = tools
        self._capacity = capacity
        self._kept: dict[tuple[str, str], _Kept] = {}

    def of(self, agent: Agent, runner: Runner) -> Grants:
        """Raises WrongState where the agent's configuration names a model that does not exist."""
        key = (agent.workspace_id, agent.agent_id)
        offered = self._tools.tools(agent.workspace_id)
        registry = self._models.of(agent.workspace_id)
        found = self._kept.get(key)
        if found is not None:
            known, seen, kept = found
            if kept.agent is agent and kept.runner is runner and known == offered and seen is registry:
                return kept
        grants = self._compute(agent, runner, offered, registry)
        if len(self._kept) >= self._capacity:
            self._kept.pop(next(iter(self._kept)))
        self._kept[key] = (offered, registry, grants)
        return grants

    def _compute(
        self, agent: Agent, runner: Runner, offered: Sequence[RegisteredTool], registry: ModelRegistry
    ) -> Grants:
        spec = agent.spec
        config = json.loads(spec.config_json)
        manifest = manifest_layer(runner)
        models = _models_of(agent, runner, config, registry)
        narrowing = Narrowing(manifest.permissions)
        selected = selected_by(runner.config_fields, config)
        wanted = set(selected.tools)
        skills = tuple(dict.fromkeys((*selected.skills, *spec.resource_policy.skills)))
        if skills:
            wanted |= READING_TOOLS
        if "skill_authoring" not in runner.capabilities:
            offered = [tool for tool in offered if tool.spec.name != REGISTER]
        tools = _tools_of(spec, wanted, offered, narrowing)
        if not models:
            narrowing.take(_MODELS, "the agent has no model")
        if not tools:
            narrowing.take(_TOOLS, "the agent has no tool")
        _apply_policy(narrowing, spec)
        policy = Layer("policy", narrowing.result(), tuple(narrowing.removed))
        allowed = policy.permissions.allowed
        return Grants(
            agent=agent,
            runner=runner,
            config=config,
            manifest=manifest,
            policy=policy,
            models=models if allowed & _MODELS else (),
            tools=tools if allowed & _TOOLS else (),
            state_scopes=_scopes(spec) if "state" in allowed else (),
            skills=skills if allowed & _TOOLS else (),
        )


def _models_of(
    agent: Agent, runner: Runner, config: Mapping[str, object], registry: ModelRegistry
) -> tuple[ModelInfo, ...]:
    selected = selected_by(runner.config_fields, config)
    chosen = selected.models or (registry.default_model_id,)
    known = {model.model_id: model for model in registry.models() if not model.disabled}
    names = dict.fromkeys((*chosen, *selected.rerank_models, *agent.spec.resource_policy.model_ids))
    for name in names:
        if name not in known:
            raise _unknown_model(agent, name, registry)
    return tuple(known[name] for name in names)


def _unknown_model(agent: Agent, name: str, registry: ModelRegistry) -> WrongState:
    try:
        registry.resolve(name)
        why = "is not a model"
    except ModelError as error:
        why = error.message
    return WrongState(
        f"The agent {agent.agent_id} names the model {name!r}: {why}. Change the agent's configuration.",
        reason=Reason.NOT_CONFIGURED,
    )


def manifest_layer(runner: Runner) -> Layer:
    """What the manifest permits, as far as the runner is able to use it."""
    narrowing = Narrowing(runner.permissions)
    for capability, names in PRECONDITIONS.items():
        if capability not in runner.capabilities:
            narrowing.take(names, f"the runner lacks the capability {capability}")
    if "platform_api" not in runner.capabilities:
        narrowing.keep_actions(frozenset(), "the runner lacks the capability platform_api")
    return Layer("manifest", narrowing.result(), tuple(narrowing.removed))


def _apply_policy(narrowing: Narrowing, spec: AgentSpec) -> None:
    resources, box = spec.resource_policy, spec.box_policy
    narrowing.take(_KNOWLEDGE, "knowledge bases are not available in this version")
    if not resources.file_ids:
        narrowing.take(_FILES, "the agent has no file")
    for name, granted in (
        ("storage_plugin", resources.storage_plugin),
        ("storage_workspace", resources.storage_workspace),
        ("storage_binding", resources.storage_binding),
        ("state", not spec.state_policy.disabled),
        ("interactions_request", not spec.delivery_policy.interactions_disabled),
    ):
        if not granted:
            narrowing.take(frozenset({name}), "the agent's policy")
    if not box.tools:
        narrowing.take(_BOX, "the agent's box policy offers no tools")
    narrowing.limit_history(HistoryScope[resources.history_scope.name], "the agent's policy")
    narrowing.keep_actions(frozenset(spec.delivery_policy.platform_actions), "the agent's policy")


def _tools_of(
    spec: AgentSpec, wanted: set[str], offered: Sequence[RegisteredTool], narrowing: Narrowing
) -> tuple[ToolSpec, ...]:
    """Native tools by the box policy; others by what the policy and the configuration name."""
    policy = spec.resource_policy
    try:
        native = set(chosen(spec.box_policy.tools, spec.box_policy.read_only))
    except InvalidInput as error:
        raise WrongState(f"The agent {spec.name}: {error.message}", reason=Reason.NOT_CONFIGURED) from error
    tools: list[ToolSpec] = []
    for tool in offered:
        name = tool.spec.name
        named = name in native if tool.spec.type is ToolType.NATIVE else _is_named(tool, wanted, policy.tools)
        if not named or name in policy.denied_tools:
            continue
        if tool.availability.absent:
            narrowing.removed.append(f"tool {name}: {tool.availability.reason}")
        else:
            # Also one that cannot be used now: it may come back during the run, and who calls it is told the reason.
            tools.append(tool.spec)
    _note_missing((*sorted(wanted), *policy.tools), offered, narrowing)
    return tuple(tools)


def _note_missing(named: Sequence[str], offered: Sequence[RegisteredTool], narrowing: Narrowing) -> None:
    """A plugin or an MCP server that is not there now has no tools; whoever explains the run should see that."""
    if not named:
        return
    there = {tool.spec.name for tool in offered} | {f"{tool.source_id}/*" for tool in offered}
    for name in dict.fromkeys(named):
        if name not in there:
            narrowing.removed.append(f"tool {name}: there is none now; `portway tool list` shows those that are")


def _is_named(tool: RegisteredTool, wanted: set[str], patterns: Sequence[str]) -> bool:
    name = tool.spec.name
    return name in wanted or name in patterns or f"{tool.source_id}/*" in patterns


def _scopes(spec: AgentSpec) -> tuple[Scope, ...]:
    # The runner's own scope needs no identity of the event, so it is there wherever state is.
    chosen = {*spec.state_policy.scopes, Scope.RUNNER.value}
    return tuple(scope for scope in Scope if scope.value in chosen)
