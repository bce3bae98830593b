"""Making, changing and removing bindings. Two that could answer the same event equally well are never both saved."""

from portway.rpc.errors import Conflict, FieldViolation, InvalidInput, NotFound, NotPermitted, Reason, WrongState
from portway.rpc.identity import Caller, Role
from portway.rpc.ids import derived_id, new_id
from portway.server.agents.store import read_agent
from portway.server.agents.types import ManagedBy
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.bindings.clashes import refuse_clash
from portway.server.bindings.directory import BindingDirectory
from portway.server.bindings.patterns import violation_of
from portway.server.bindings.store import add_binding, change_binding, read_binding, remove_binding
from portway.server.bindings.types import GLOBAL_WORKSPACE, Binding, BindingScope, BindingSpec
from portway.server.bindings.wire import Draft
from portway.server.storage_engine.transaction import ReadTransaction, Transaction
from portway.server.storage_engine.writer import Writer

_WIDE = (BindingScope.GLOBAL, BindingScope.WORKSPACE)


class BindingManager:
    """Every change is audited in the transaction that makes it."""

    def __init__(self, writer: Writer, directory: BindingDirectory) -> None:
        self._writer = writer
        self._directory = directory

    async def create(self, caller: Caller, draft: Draft, request_id: str) -> Binding:
        """Raises InvalidInput, NotFound (agent), NotPermitted (global); Conflict (id, or BINDING_AMBIGUOUS)."""
        spec = draft.spec
        _check(spec)
        owner = _owner(caller, spec)
        made = derived_id("bnd", "binding", owner, request_id) if request_id else new_id("bnd")
        binding_id = draft.binding_id or made

        def unit(tx: Transaction) -> Binding:
            _check_agent(tx, caller, spec)
            try:
                binding = add_binding(tx, owner, binding_id, spec)
            except Conflict:
                earlier = read_binding(tx, owner, binding_id)
                if not request_id or earlier.spec != spec:
                    raise
                return earlier
            refuse_clash(tx, binding)
            append_audit(tx, [_record(caller, "binding.create", binding_id)])
            return binding

        return await self._writer.run(unit, then=self._changed)

    async def update(self, caller: Caller, draft: Draft) -> Binding:
        """Raises as `create`; Stale (revision); WrongState (managed by the configuration file)."""
        spec = draft.spec
        _check(spec)

        def unit(tx: Transaction) -> Binding:
            before = find_binding(tx, caller.workspace_id, draft.binding_id)
            _refuse_config(before)
            if (before.workspace_id == GLOBAL_WORKSPACE) != (spec.scope is BindingScope.GLOBAL):
                raise InvalidInput.field("binding.scope", "cannot change from or to global; make a new binding instead")
            _owner(caller, spec)
            _check_agent(tx, caller, spec)
            binding = change_binding(tx, before.workspace_id, before.binding_id, spec, expected_revision=draft.revision)
            refuse_clash(tx, binding)
            append_audit(tx, [_record(caller, "binding.update", before.binding_id)])
            return binding

        return await self._writer.run(unit, then=self._changed)

    async def delete(self, caller: Caller, binding_id: str) -> None:
        """Raises NotFound, NotPermitted (global); WrongState (managed by the configuration file)."""

        def unit(tx: Transaction) -> Binding:
            binding = find_binding(tx, caller.workspace_id, binding_id)
            _refuse_config(binding)
            _owner(caller, binding.spec)
            remove_binding(tx, binding.workspace_id, binding_id)
            append_audit(tx, [_record(caller, "binding.delete", binding_id)])
            return binding

        await self._writer.run(unit, then=self._changed)

    def _changed(self, binding: Binding) -> None:
        self._directory.forget(binding.workspace_id)


def find_binding(tx: ReadTransaction, workspace_id: str, binding_id: str) -> Binding:
    """One of the workspace, or a global one. Raises NotFound."""
    try:
        return read_binding(tx, workspace_id, binding_id)
    except NotFound:
        return read_binding(tx, GLOBAL_WORKSPACE, binding_id)


def check_spec(spec: BindingSpec) -> list[FieldViolation]:
    """What is wrong with it, each with its path in the request."""
    found: list[FieldViolation] = []
    if not spec.agent_id:
        found.append(FieldViolation("binding.agent_id", "is required"))
    if spec.scope in _WIDE and spec.scope_id:
        found.append(FieldViolation("binding.scope_id", f"must be empty for the scope {spec.scope}"))
    if spec.scope not in _WIDE and not spec.scope_id:
        found.append(FieldViolation("binding.scope_id", f"names the {spec.scope}; it is required"))
    broken = violation_of("binding.filters.pattern", spec.filters.pattern) if spec.filters.pattern else None
    if broken is not None:
        found.append(broken)
    return found


def _check(spec: BindingSpec) -> None:
    found = check_spec(spec)
    if found:
        raise InvalidInput("; ".join(f"{one.field}: {one.description}" for one in found), fields=found)


def _check_agent(tx: ReadTransaction, caller: Caller, spec: BindingSpec) -> None:
    read_agent(tx, caller.workspace_id, spec.agent_id)


def _owner(caller: Caller, spec: BindingSpec) -> str:
    """The workspace that the binding is kept under. What holds for all workspaces is the administrator's to say."""
    if spec.scope is not BindingScope.GLOBAL:
        return caller.workspace_id
    if caller.role is not Role.ADMIN:
        raise NotPermitted(
            "A global binding holds for every workspace: only an administrator may make, change or remove one. Use the "
            "scope of the workspace.",
            reason=Reason.NOT_GRANTED,
        )
    return GLOBAL_WORKSPACE


def _refuse_config(binding: Binding) -> None:
    if binding.managed_by is ManagedBy.CONFIG:
        raise WrongState(
            f"The binding {binding.binding_id} is declared in the configuration file, and can only be changed there.",
            reason=Reason.MANAGED_BY_CONFIG,
        )


def _record(caller: Caller, action: str, binding_id: str) -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=caller.workspace_id,
        action=action,
        resource=binding_id,
        allowed=True,
        role=caller.role.name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
        peer=caller.peer,
    )
