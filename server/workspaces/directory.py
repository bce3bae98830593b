"""The workspaces in memory: what they may hold is asked for every event and every run."""

from portway.rpc.errors import Reason, WrongState
from portway.server.agents.types import Budget
from portway.server.workspaces.store import Workspaces
from portway.server.workspaces.types import Quota, Workspace

_AT_ONCE = 500
_NO_LIMITS = Quota()
_NO_BUDGET = Budget()


class WorkspaceDirectory:
    """Answers from memory; whoever changes a workspace says so after the commit."""

    def __init__(self) -> None:
        self._known: dict[str, Workspace] = {}

    async def load(self, workspaces: Workspaces) -> None:
        """Read them all."""
        after = ""
        found: dict[str, Workspace] = {}
        while page := await workspaces.page(after, _AT_ONCE):
            found.update((one.workspace_id, one) for one in page)
            after = page[-1].workspace_id
        self._known = found

    def put(self, workspace: Workspace) -> None:
        self._known[workspace.workspace_id] = workspace

    def drop(self, workspace_id: str) -> None:
        self._known.pop(workspace_id, None)

    def quota(self, workspace_id: str) -> Quota:
        found = self._known.get(workspace_id)
        return found.limits.quota if found else _NO_LIMITS

    def budget_of(self, workspace_id: str) -> Budget:
        """What it may spend a month."""
        found = self._known.get(workspace_id)
        return found.limits.budget if found else _NO_BUDGET

    def is_closed(self, workspace_id: str) -> bool:
        """Disabled, or being erased."""
        found = self._known.get(workspace_id)
        return found is not None and found.closed

    def check_open(self, workspace_id: str) -> None:
        """Raises WrongState (WORKSPACE_DISABLED)."""
        found = self._known.get(workspace_id)
        if found is None or not found.closed:
            return
        if found.delete_time:
            raise WrongState(
                f"The workspace {workspace_id!r} is being erased; use another one.", reason=Reason.WORKSPACE_DISABLED
            )
        raise WrongState(
            f"The workspace {workspace_id!r} is switched off; an administrator switches it on with "
            f"`portway workspace enable {workspace_id}`.",
            reason=Reason.WORKSPACE_DISABLED,
        )
