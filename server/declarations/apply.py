"""Bringing the database in line with what the configuration file declares, in one transaction at start.

What is declared is the file's: read-only in the API. What the file no longer declares is removed; an agent that
bindings of the API still name is kept, and becomes the API's.
"""

import dataclasses
from collections.abc import Mapping

import structlog

from portway.server.agents import wire as agents_wire
from portway.server.agents.config_secrets import ConfigSecrets, StoredConfig, places_of, take_secrets
from portway.server.agents.directory import AgentDirectory
from portway.server.agents.store import add_agent, change_agent, read_agents, remove_agent
from portway.server.agents.types import Agent, AgentSpec, BoxPolicy, ManagedBy
from portway.server.bindings import wire as bindings_wire
from portway.server.bindings.clashes import refuse_clashes
from portway.server.bindings.directory import BindingDirectory
from portway.server.bindings.store import (
    add_binding,
    change_binding,
    read_bindings,
    read_of_agent,
    remove_binding,
)
from portway.server.bindings.types import GLOBAL_WORKSPACE, Binding, BindingScope, BindingSpec
from portway.server.declarations.read import Declared
from portway.server.runtimes.runner import Runner
from portway.server.schedules.declare import apply_schedules
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.server.workspaces.store import ensure_workspace
from portway.server.workspaces.types import DEFAULT_WORKSPACE

DEMO_AGENT = "assistant"
DEMO_BINDING = "default"
DEMO_RUNNER = "plugin:portway/local-agent/default"


class Declarations:
    """Applies declarations to the default workspace."""

    def __init__(
        self, writer: Writer, secrets: ConfigSecrets, agents: AgentDirectory, bindings: BindingDirectory
    ) -> None:
        self._writer = writer
        self._secrets = secrets
        self._agents = agents
        self._bindings = bindings
        self._log = structlog.get_logger("portway.server.declarations")

    async def apply(self, declared: Declared, runners: Mapping[str, Runner]) -> None:
        """Call at start. `runners` are those that are known already: they tell which fields hold secrets.

        Raises Conflict (BINDING_AMBIGUOUS, a name that another agent has).
        """
        handed_over = await self._writer.run(lambda tx: self._apply(tx, declared, runners))
        for agent_id in handed_over:
            self._log.warning(
                "the file no longer declares an agent that bindings name; it is the API's now", agent=agent_id
            )
        for draft in declared.agents:
            self._agents.forget(DEFAULT_WORKSPACE, draft.agent_id)
        self._bindings.forget(GLOBAL_WORKSPACE)

    def _apply(self, tx: Transaction, declared: Declared, runners: Mapping[str, Runner]) -> list[str]:
        first_start = ensure_workspace(tx, DEFAULT_WORKSPACE, "Default")
        if first_start and not declared.agents:
            _make_demo(tx)
        before = {agent.agent_id: agent for agent in read_agents(tx, DEFAULT_WORKSPACE)}
        self._remove_bindings(tx, declared)
        for draft in declared.agents:
            self._put_agent(tx, draft, before.get(draft.agent_id), runners.get(draft.spec.runner_id))
        changed = [self._put_binding(tx, draft) for draft in declared.bindings]
        for workspace_id in (DEFAULT_WORKSPACE, GLOBAL_WORKSPACE):
            refuse_clashes(tx, workspace_id, [one for one in changed if one.workspace_id == workspace_id])
        apply_schedules(tx, DEFAULT_WORKSPACE, declared.schedules)
        wanted = {draft.agent_id for draft in declared.agents}
        return self._remove_agents(tx, [one for one in before.values() if one.agent_id not in wanted])

    def _put_agent(
        self, tx: Transaction, draft: agents_wire.Draft, before: Agent | None, runner: Runner | None
    ) -> None:
        old_json = before.spec.config_json if before else "{}"
        stored = take_secrets(draft.agent_id, draft.config, runner, old_json)
        spec = dataclasses.replace(draft.spec, config_json=stored.config_json)
        if before is None:
            add_agent(tx, DEFAULT_WORKSPACE, draft.agent_id, spec, ManagedBy.CONFIG)
        elif before.spec != spec or before.managed_by is not ManagedBy.CONFIG:
            change_agent(tx, DEFAULT_WORKSPACE, draft.agent_id, spec, managed_by=ManagedBy.CONFIG)
        self._secrets.keep(tx, DEFAULT_WORKSPACE, stored)

    def _put_binding(self, tx: Transaction, draft: bindings_wire.Draft) -> Binding:
        owner = _owner(draft.spec)
        before = {one.binding_id: one for one in read_bindings(tx, owner)}.get(draft.binding_id)
        if before is None:
            return add_binding(tx, owner, draft.binding_id, draft.spec, ManagedBy.CONFIG)
        if before.spec == draft.spec and before.managed_by is ManagedBy.CONFIG:
            return before
        return change_binding(tx, owner, draft.binding_id, draft.spec, managed_by=ManagedBy.CONFIG)

    def _remove_bindings(self, tx: Transaction, declared: Declared) -> None:
        wanted = {(_owner(draft.spec), draft.binding_id) for draft in declared.bindings}
        for owner in (DEFAULT_WORKSPACE, GLOBAL_WORKSPACE):
            for binding in read_bindings(tx, owner):
                if binding.managed_by is ManagedBy.CONFIG and (owner, binding.binding_id) not in wanted:
                    remove_binding(tx, owner, binding.binding_id)

    def _remove_agents(self, tx: Transaction, others: list[Agent]) -> list[str]:
        handed_over: list[str] = []
        for agent in others:
            if agent.managed_by is not ManagedBy.CONFIG:
                continue
            if read_of_agent(tx, DEFAULT_WORKSPACE, agent.agent_id):
                change_agent(tx, DEFAULT_WORKSPACE, agent.agent_id, agent.spec, managed_by=ManagedBy.API)
                handed_over.append(agent.agent_id)
                continue
            remove_agent(tx, DEFAULT_WORKSPACE, agent.agent_id)
            dropped = tuple(secret_id for _, secret_id in places_of(agent.spec.config_json))
            self._secrets.keep(tx, DEFAULT_WORKSPACE, StoredConfig("{}", {}, dropped))
        return handed_over


def _make_demo(tx: Transaction) -> None:
    """An agent that answers whoever writes, and may use the sandbox: the first conversation needs no configuration."""
    spec = AgentSpec(
        name=DEMO_AGENT,
        runner_id=DEMO_RUNNER,
        description="Made at the first start. It answers every message that no other binding takes.",
        box_policy=BoxPolicy(tools=("*",), profile="default"),
    )
    add_agent(tx, DEFAULT_WORKSPACE, DEMO_AGENT, spec, ManagedBy.HOST)
    binding = BindingSpec(agent_id=DEMO_AGENT, scope=BindingScope.GLOBAL, event_types=())
    add_binding(tx, GLOBAL_WORKSPACE, DEMO_BINDING, binding, ManagedBy.HOST)


def _owner(spec: BindingSpec) -> str:
    return GLOBAL_WORKSPACE if spec.scope is BindingScope.GLOBAL else DEFAULT_WORKSPACE
