"""What decides whether something of a workspace may happen at all: its state, its quotas, its kill switches."""

from dataclasses import dataclass

from portway.rpc.streams import OpenStreams
from portway.server.storage_engine.database import Database
from portway.server.switches.directory import KillSwitches
from portway.server.switches.store import SwitchTable
from portway.server.users.store import StoredUsers
from portway.server.workspaces.directory import WorkspaceDirectory
from portway.server.workspaces.quotas import WorkspaceQuotas
from portway.server.workspaces.store import StoredWorkspaces


@dataclass(frozen=True, slots=True)
class Access:
    """Asked on every event and call, and so kept in memory; `load` before anybody is served."""

    workspaces: StoredWorkspaces
    directory: WorkspaceDirectory
    quotas: WorkspaceQuotas
    stored_switches: SwitchTable
    switches: KillSwitches
    users: StoredUsers
    streams: OpenStreams

    async def load(self) -> None:
        """Read what is kept in memory."""
        await self.directory.load(self.workspaces)
        await self.switches.load(self.stored_switches)

    def forget(self, workspace_id: str) -> None:
        """The workspace is gone."""
        self.directory.drop(workspace_id)
        self.quotas.drop(workspace_id)
        self.switches.drop(workspace_id)


def build_access(database: Database) -> Access:
    """Over one database."""
    directory = WorkspaceDirectory()
    return Access(
        workspaces=StoredWorkspaces(database.reader),
        directory=directory,
        quotas=WorkspaceQuotas(directory),
        stored_switches=SwitchTable(database.reader),
        switches=KillSwitches(),
        users=StoredUsers(database.reader),
        streams=OpenStreams(),
    )
