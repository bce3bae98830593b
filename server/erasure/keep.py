"""Erasures, asked for once and done to their end: one after the other, again after a failure, and after a kill."""

import asyncio

import structlog

from portway.rpc.errors import PortwayError, WrongState
from portway.rpc.identity import Caller, Role
from portway.rpc.ids import new_id
from portway.server.audit.store import append_audit
from portway.server.audit.types import NewAuditRecord
from portway.server.conversations.store import read_conversation
from portway.server.erasure.erase import Eraser
from portway.server.erasure.scrub import scrub
from portway.server.erasure.store import StoredErasures, begin_erasure, end_erasure
from portway.server.erasure.types import Erasure, ErasureKind
from portway.server.erasure.workspace import WorkspaceEraser
from portway.server.runs.open import OpenRuns
from portway.server.runs.types import RunFilter
from portway.server.storage_engine.database import Database
from portway.server.storage_engine.transaction import Transaction
from portway.server.tokens.authenticator import TokenAuthenticator
from portway.server.users.store import read_user
from portway.server.workspaces.access import Access
from portway.server.workspaces.store import condemn_workspace
from portway.server.workspaces.types import DEFAULT_WORKSPACE, Workspace

_AT_ONCE = 100
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class ErasureKeeper:
    """`run` must be running."""

    def __init__(
        self,
        database: Database,
        access: Access,
        authenticator: TokenAuthenticator,
        open_runs: OpenRuns,
        eraser: Eraser,
        workspaces: WorkspaceEraser,
    ) -> None:
        self._database = database
        self._access = access
        self._authenticator = authenticator
        self._open_runs = open_runs
        self._eraser = eraser
        self._workspaces = workspaces
        self._stored = StoredErasures(database.reader)
        self._waiting: dict[str, asyncio.Future[Erasure]] = {}
        self._asked = asyncio.Event()
        self._log = structlog.get_logger("portway.server.erasure")

    async def user(self, caller: Caller, user_id: str, reason: str) -> Erasure:
        """Returns when nothing is left. Raises NotFound."""

        def unit(tx: Transaction) -> Erasure:
            accounts = "\n".join(read_user(tx, caller.workspace_id, user_id).spec.actor_ids)
            return _begin(tx, caller, caller.workspace_id, ErasureKind.USER, user_id, accounts, reason)

        return await self._done(await self._database.writer.run(unit))

    async def conversation(self, caller: Caller, conversation_id: str, reason: str) -> Erasure:
        """Returns when nothing is left. Raises NotFound."""

        def unit(tx: Transaction) -> Erasure:
            read_conversation(tx, caller.workspace_id, conversation_id)
            kind = ErasureKind.CONVERSATION
            return _begin(tx, caller, caller.workspace_id, kind, conversation_id, "", reason)

        return await self._done(await self._database.writer.run(unit))

    async def workspace(self, caller: Caller, workspace_id: str, *, force: bool) -> None:
        """Returns when nothing is left. Raises NotFound, WrongState."""
        if workspace_id == DEFAULT_WORKSPACE:
            raise WrongState("The default workspace holds the first administrator and cannot be deleted.")
        if workspace_id == caller.workspace_id:
            raise WrongState("You would delete the workspace of your own token. Use a token of another workspace.")
        if not force and await self._open_runs.any(workspace_id, RunFilter()):
            raise WrongState(
                f"The workspace {workspace_id!r} has runs under way. Wait for them, or say `force` to cancel them."
            )

        def unit(tx: Transaction) -> tuple[Workspace, Erasure]:
            condemned = condemn_workspace(tx, workspace_id)
            kind = ErasureKind.WORKSPACE
            return condemned, _begin(tx, caller, workspace_id, kind, workspace_id, "", "")

        done = self._database.writer.submit(unit)
        done.add_done_callback(self._close)
        _, erasure = await asyncio.shield(done)
        await self._done(erasure)

    def _close(self, done: "asyncio.Future[tuple[Workspace, Erasure]]") -> None:
        if not done.cancelled() and done.exception() is None:
            self._access.directory.put(done.result()[0])

    async def _done(self, erasure: Erasure) -> Erasure:
        future = self._waiting.get(erasure.erasure_id)
        if future is None:
            future = self._waiting[erasure.erasure_id] = asyncio.get_running_loop().create_future()
        self._asked.set()
        return await asyncio.shield(future)

    async def run(self) -> None:
        """Until it is cancelled."""
        pause = _FIRST_PAUSE
        while True:
            self._asked.clear()
            unfinished = await self._stored.unfinished(_AT_ONCE)
            failed = [erasure for erasure in unfinished if not await self._try(erasure)]
            if failed:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            if not unfinished:
                await self._asked.wait()

    async def _try(self, erasure: Erasure) -> bool:
        try:
            ended = await self._finish(erasure)
        except PortwayError as error:
            self._log.warning("an erasure goes on later", erasure=erasure.erasure_id, reason=error.message)
            return False
        future = self._waiting.pop(erasure.erasure_id, None)
        if future is not None and not future.done():
            future.set_result(ended)
        return True

    async def _finish(self, erasure: Erasure) -> Erasure:
        if erasure.kind is ErasureKind.WORKSPACE:
            await self._workspaces.run(erasure)
            await scrub(self._database)
            self._access.forget(erasure.workspace_id)
            self._authenticator.forget_all()
            return erasure
        await self._eraser.run(erasure)
        await scrub(self._database)

        def unit(tx: Transaction) -> Erasure:
            ended = end_erasure(tx, erasure)
            counts = f"{ended.redacted} rows were redacted, {ended.artifacts} artifacts removed"
            append_audit(tx, [_record(ended, "data.erased", counts)])
            return ended

        return await self._database.writer.run(unit)


def _begin(
    tx: Transaction,
    caller: Caller,
    workspace_id: str,
    kind: ErasureKind,
    subject_id: str,
    accounts: str,
    reason: str,
) -> Erasure:
    wanted = Erasure(
        workspace_id=workspace_id,
        erasure_id=new_id("ers"),
        kind=kind,
        subject_id=subject_id,
        actor_ids=accounts,
        asked_by=caller.token_id,
        asked_in=caller.workspace_id,
        position=0,
        redacted=0,
        artifacts=0,
        create_time=tx.now,
        end_time=0,
    )
    erasure = begin_erasure(tx, wanted)
    if erasure is wanted:
        append_audit(tx, [_asked(caller, erasure, reason)])
    return erasure


def _asked(caller: Caller, erasure: Erasure, reason: str) -> NewAuditRecord:
    action = "workspace.delete" if erasure.kind is ErasureKind.WORKSPACE else "data.erase"
    return NewAuditRecord(
        # That of a workspace would go with it: it stays with who has asked.
        workspace_id=caller.workspace_id,
        action=action,
        resource=f"{erasure.kind} {erasure.subject_id}",
        allowed=True,
        role=Role(caller.role).name.lower(),
        subject=caller.subject,
        token_id=caller.token_id,
        peer=caller.peer,
        details=reason[:1_000],
    )


def _record(erasure: Erasure, action: str, details: str) -> NewAuditRecord:
    return NewAuditRecord(
        workspace_id=erasure.asked_in,
        action=action,
        resource=f"{erasure.kind} {erasure.subject_id}",
        allowed=True,
        token_id=erasure.asked_by,
        details=f"{details} ({erasure.erasure_id})",
    )
