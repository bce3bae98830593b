"""Making, changing and removing agents."""

import dataclasses
from typing import Protocol

from portway.rpc.errors import Conflict, FieldViolation, InvalidInput, NotFound, Reason, WrongState
from portway.rpc.identity import Caller
from portway.rpc.ids import derived_id, new_id
from portway.server.agents.checks import violations_of
from portway.server.agents.config_schema import violations_of as config_violations
from portway.server.agents.config_secrets import ConfigSecrets, StoredConfig, places_of, take_secrets
from portway.server.agents.directory import AgentDirectory
from portway.server.agents.store import add_agent, change_agent, read_agent, remove_agent
from portway.server.agents.types import Agent, ManagedBy
from portway.server.agents.wire import Draft
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.bindings.clashes import refuse_clashes
from portway.server.bindings.directory import BindingDirectory
from portway.server.bindings.store import read_of_agent
from portway.server.models.registry import WorkspaceModels
from portway.server.runtimes.runner import Runner
from portway.server.snapshot.selected import selected_by
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer


class Runners(Protocol):
    """The runners that there are now."""

    async def find(self, runner_id: str, patience: float = 0.0) -> Runner:
        """Raises NotFound, Unavailable (no runtime)."""


class AgentManager:
    """Every change is checked against the runner's schema, and audited in the transaction that makes it."""

    def __init__(
        self,
        writer: Writer,
        directory: AgentDirectory,
        bindings: BindingDirectory,
        runners: Runners,
        models: WorkspaceModels,
        secrets: ConfigSecrets,
    ) -> None:
        self._writer = writer
        self._directory = directory
        self._bindings = bindings
        self._runners = runners
        self._models = models
        self._secrets = secrets

    async def create(self, caller: Caller, draft: Draft, request_id: str) -> Agent:
        """Raises InvalidInput with all violations, NotFound (runner), Conflict (id, name), Unavailable (no runtime)."""
        runner = await self._checked(caller.workspace_id, draft)
        workspace_id = caller.workspace_id
        made = derived_id("agt", "agent", workspace_id, request_id) if request_id else new_id("agt")
        agent_id = draft.agent_id or made
        stored = take_secrets(agent_id, draft.config, runner)
        spec = dataclasses.replace(draft.spec, config_json=stored.config_json)

        def unit(tx: Transaction) -> Agent:
            try:
                agent = add_agent(tx, workspace_id, agent_id, spec)
            except Conflict:
                earlier = _same(tx, workspace_id, agent_id, draft) if request_id else None
                if earlier is None:
                    raise
                return earlier
            self._secrets.keep(tx, workspace_id, stored)
            append_audit(tx, [_record(caller, "agent.create", agent_id)])
            return agent

        return await self._writer.run(unit, then=self._changed)

    async def update(self, caller: Caller, draft: Draft) -> Agent:
        """Raises as `create`; Stale (revision); WrongState (managed by the configuration file)."""
        runner = await self._checked(caller.workspace_id, draft)
        workspace_id, agent_id = caller.workspace_id, draft.agent_id

        def unit(tx: Transaction) -> Agent:
            before = read_agent(tx, workspace_id, agent_id)
            _refuse_config(before)
            stored: StoredConfig = take_secrets(agent_id, draft.config, runner, before.spec.config_json)
            spec = dataclasses.replace(draft.spec, config_json=stored.config_json)
            agent = change_agent(tx, workspace_id, agent_id, spec, expected_revision=draft.revision)
            if spec.event_types != before.spec.event_types:
                refuse_clashes(tx, workspace_id, read_of_agent(tx, workspace_id, agent_id))
            self._secrets.keep(tx, workspace_id, stored)
            append_audit(tx, [_record(caller, "agent.update", agent_id)])
            return agent

        return await self._writer.run(unit, then=self._changed)

    async def delete(self, caller: Caller, agent_id: str) -> None:
        """Raises NotFound; WrongState (bindings name it, or managed by the configuration file)."""
        workspace_id = caller.workspace_id

        def unit(tx: Transaction) -> Agent:
            agent = read_agent(tx, workspace_id, agent_id)
            _refuse_config(agent)
            naming = [one.binding_id for one in read_of_agent(tx, workspace_id, agent_id)]
            if naming:
                raise WrongState(
                    f"The agent {agent_id} is named by the bindings {', '.join(naming[:5])}. Remove these first.",
                    reason=Reason.IN_USE,
                )
            remove_agent(tx, workspace_id, agent_id)
            dropped = tuple(secret_id for _, secret_id in places_of(agent.spec.config_json))
            self._secrets.keep(tx, workspace_id, StoredConfig("{}", {}, dropped))
            append_audit(tx, [_record(caller, "agent.delete", agent_id)])
            return agent

        await self._writer.run(unit, then=self._changed)

    async def _checked(self, workspace_id: str, draft: Draft) -> Runner:
        models = self._models.of(workspace_id)
        found = violations_of(draft.spec, models)
        if any(one.field == "agent.runner_id" for one in found):
            raise _invalid(found)
        runner = await self._runners.find(draft.spec.runner_id)
        found += config_violations(draft.config, runner.config_fields)
        selected = selected_by(runner.config_fields, draft.config)
        for model_id in (*selected.models, *selected.rerank_models):
            try:
                models.model(model_id)
            except NotFound as error:
                found.append(FieldViolation("agent.config", error.message))
        if found:
            raise _invalid(found)
        return runner

    def _changed(self, agent: Agent) -> None:
        self._directory.forget(agent.workspace_id, agent.agent_id)
        self._bindings.forget(agent.workspace_id)


def _same(tx: Transaction, workspace_id: str, agent_id: str, draft: Draft) -> Agent | None:
    """The agent that the same request made before."""
    try:
        agent = read_agent(tx, workspace_id, agent_id)
    except NotFound:
        return None
    wanted = dataclasses.replace(draft.spec, config_json=agent.spec.config_json)
    return agent if agent.spec == wanted else None


def _refuse_config(agent: Agent) -> None:
    if agent.managed_by is ManagedBy.CONFIG:
        raise WrongState(
            f"The agent {agent.agent_id} is declared in the configuration file, and can only be changed there.",
            reason=Reason.MANAGED_BY_CONFIG,
        )


def _invalid(found: list[FieldViolation]) -> InvalidInput:
    return InvalidInput("; ".join(f"{one.field}: {one.description}" for one in found), fields=found)


def _record(caller: Caller, action: str, agent_id: str) -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=caller.workspace_id,
        action=action,
        resource=agent_id,
        allowed=True,
        role=caller.role.name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
        peer=caller.peer,
    )
