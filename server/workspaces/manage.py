"""Making, changing and closing workspaces."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from portway.rpc.errors import Conflict, InvalidInput, NotFound, WrongState
from portway.rpc.identity import Caller, Role
from portway.rpc.ids import derived_id, new_id
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.runs.open import EXECUTING, OpenRuns
from portway.server.runs.types import RunFilter
from portway.server.storage_engine.transaction import Transaction, Unit
from portway.server.storage_engine.writer import Writer
from portway.server.workspaces.directory import WorkspaceDirectory
from portway.server.workspaces.store import Workspaces, change_workspace, ensure_workspace, read_workspace
from portway.server.workspaces.types import DEFAULT_WORKSPACE, Workspace, WorkspaceLimits

# `*` stands for all workspaces in the database, and the id is part of paths and cursors.
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A workspace as somebody wants it."""

    workspace_id: str
    name: str
    revision: int = 0
    disabled: bool = False
    limits: WorkspaceLimits = WorkspaceLimits()


class WorkspaceManager:
    """Administrators make workspaces; everybody else sees their own alone."""

    def __init__(
        self,
        writer: Writer,
        workspaces: Workspaces,
        directory: WorkspaceDirectory,
        open_runs: OpenRuns,
        review: Callable[[str], None],
    ) -> None:
        """`review` is told that a workspace may have more or fewer runs at once."""
        self._writer = writer
        self._workspaces = workspaces
        self._directory = directory
        self._open_runs = open_runs
        self._review = review

    async def get(self, caller: Caller, workspace_id: str) -> Workspace:
        """Raises NotFound, also for another workspace than the caller's own."""
        if caller.role is not Role.ADMIN and workspace_id != caller.workspace_id:
            raise NotFound.of("workspace", workspace_id)
        return await self._workspaces.workspace(workspace_id)

    async def create(self, caller: Caller, wanted: Wanted, request_id: str) -> Workspace:
        """Raises InvalidInput; Conflict where the id is taken."""
        made = derived_id("wsp", "workspace", request_id) if request_id else new_id("wsp")
        workspace_id = wanted.workspace_id or made
        _check(workspace_id, wanted)
        if wanted.disabled:
            raise InvalidInput.field("workspace.disabled", "a new workspace is on; switch it off afterwards")

        def unit(tx: Transaction) -> Workspace:
            if not ensure_workspace(tx, workspace_id, wanted.name, wanted.limits):
                earlier = read_workspace(tx, workspace_id)
                if request_id and earlier.name == wanted.name:
                    return earlier
                raise Conflict(f"There is a workspace {workspace_id!r} already. Choose another id.")
            append_audit(tx, [_record(caller, "workspace.create", workspace_id)])
            return read_workspace(tx, workspace_id)

        return await self._write(unit)

    async def update(self, caller: Caller, wanted: Wanted) -> Workspace:
        """It holds when this returns. Where it was switched off, runs that executed have been cancelled; those that
        wait go on when it is switched on.

        Raises InvalidInput, NotFound, Stale, WrongState (the default one cannot be switched off).
        """
        _check(wanted.workspace_id, wanted)
        if wanted.disabled and wanted.workspace_id == DEFAULT_WORKSPACE:
            raise WrongState("The default workspace holds the first administrator and cannot be switched off.")

        def unit(tx: Transaction) -> Workspace:
            changed = change_workspace(
                tx,
                wanted.workspace_id,
                name=wanted.name,
                disabled=wanted.disabled,
                limits=wanted.limits,
                expected_revision=wanted.revision,
            )
            details = "disabled" if wanted.disabled else ""
            append_audit(tx, [_record(caller, "workspace.update", wanted.workspace_id, details)])
            return changed

        changed = await self._write(unit)
        if changed.disabled:
            which = RunFilter(states=EXECUTING)
            await self._open_runs.end(changed.workspace_id, which, "its workspace was switched off")
        return changed

    async def _write(self, unit: Unit[Workspace]) -> Workspace:
        done = self._writer.submit(unit)
        # Not after the wait: a caller that goes away must not leave a change on disk that nobody obeys.
        done.add_done_callback(self._obey)
        return await asyncio.shield(done)

    def _obey(self, done: "asyncio.Future[Workspace]") -> None:
        if not done.cancelled() and done.exception() is None:
            self._directory.put(done.result())
            self._review(done.result().workspace_id)


def _check(workspace_id: str, wanted: Wanted) -> None:
    if not _ID.fullmatch(workspace_id):
        raise InvalidInput.field(
            "workspace.workspace_id", "has 1 to 63 lower-case letters, digits, - and _, and begins with no - or _"
        )
    if not wanted.name.strip():
        raise InvalidInput.field("workspace.name", "is required")


def _record(caller: Caller, action: str, workspace_id: str, details: str = "") -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=workspace_id,
        action=action,
        resource=workspace_id,
        allowed=True,
        role=caller.role.name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
        peer=caller.peer,
        details=details,
    )
