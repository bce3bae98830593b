"""Making and renaming workspaces."""

import re
from dataclasses import dataclass

from portway.rpc.errors import Conflict, InvalidInput, NotAvailable, NotFound
from portway.rpc.identity import Caller, Role
from portway.rpc.ids import derived_id, new_id
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.storage_engine.transaction import Transaction
from portway.server.storage_engine.writer import Writer
from portway.server.workspaces.store import Workspaces, change_workspace, ensure_workspace, read_workspace
from portway.server.workspaces.types import Workspace

# `*` stands for all workspaces in the database, and the id is part of paths and cursors.
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A workspace as somebody wants it. `limited`: with a quota or a budget."""

    workspace_id: str
    name: str
    revision: int = 0
    disabled: bool = False
    limited: bool = False


class WorkspaceManager:
    """Administrators make workspaces; everybody else sees their own alone."""

    def __init__(self, writer: Writer, workspaces: Workspaces) -> None:
        self._writer = writer
        self._workspaces = workspaces

    async def get(self, caller: Caller, workspace_id: str) -> Workspace:
        """Raises NotFound, also for another workspace than the caller's own."""
        if caller.role is not Role.ADMIN and workspace_id != caller.workspace_id:
            raise NotFound.of("workspace", workspace_id)
        return await self._workspaces.workspace(workspace_id)

    async def create(self, caller: Caller, wanted: Wanted, request_id: str) -> Workspace:
        """Raises InvalidInput, NotAvailable; Conflict where the id is taken."""
        made = derived_id("wsp", "workspace", request_id) if request_id else new_id("wsp")
        workspace_id = wanted.workspace_id or made
        _check(workspace_id, wanted)

        def unit(tx: Transaction) -> Workspace:
            if not ensure_workspace(tx, workspace_id, wanted.name):
                earlier = read_workspace(tx, workspace_id)
                if request_id and earlier.name == wanted.name:
                    return earlier
                raise Conflict(f"There is a workspace {workspace_id!r} already. Choose another id.")
            append_audit(tx, [_record(caller, "workspace.create", workspace_id)])
            return read_workspace(tx, workspace_id)

        return await self._writer.run(unit)

    async def update(self, caller: Caller, wanted: Wanted) -> Workspace:
        """Raises InvalidInput, NotAvailable, NotFound, Stale."""
        _check(wanted.workspace_id, wanted)

        def unit(tx: Transaction) -> Workspace:
            changed = change_workspace(
                tx, wanted.workspace_id, name=wanted.name, disabled=False, expected_revision=wanted.revision
            )
            append_audit(tx, [_record(caller, "workspace.update", wanted.workspace_id)])
            return changed

        return await self._writer.run(unit)


def _check(workspace_id: str, wanted: Wanted) -> None:
    if not _ID.fullmatch(workspace_id):
        raise InvalidInput.field(
            "workspace.workspace_id", "has 1 to 63 lower-case letters, digits, - and _, and begins with no - or _"
        )
    if not wanted.name.strip():
        raise InvalidInput.field("workspace.name", "is required")
    if wanted.disabled or wanted.limited:
        raise NotAvailable(
            "Switching a workspace off and limiting what it may hold or spend are not available in this version. "
            "Leave disabled, quota and budget unset."
        )


def _record(caller: Caller, action: str, workspace_id: str) -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=workspace_id,
        action=action,
        resource=workspace_id,
        allowed=True,
        role=caller.role.name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
    )
