"""Putting WorkspaceService together."""

from portway.server.erasure.servicer import ErasureMethods
from portway.server.parts import Parts
from portway.server.runs.open import OpenRuns
from portway.server.switches.manage import SwitchManager
from portway.server.switches.servicer import SwitchMethods
from portway.server.users.manage import UserManager
from portway.server.users.servicer import UserMethods
from portway.server.workspaces.manage import WorkspaceManager
from portway.server.workspaces.servicer import WorkspaceServicer


def workspace_servicer(parts: Parts) -> WorkspaceServicer:
    """Over the parts of a host."""
    access, stores, cursors = parts.access, parts.stores, parts.stores.cursors
    writer = stores.database.writer
    open_runs = OpenRuns(stores.runs, parts.canceller)
    manager = WorkspaceManager(writer, access.workspaces, access.directory, open_runs, parts.dispatcher.review)
    users = UserManager(writer, parts.authenticator)
    switches = SwitchManager(writer, access.switches, open_runs)
    return WorkspaceServicer(
        manager,
        access.workspaces,
        cursors,
        users=UserMethods(users, access.users, cursors),
        switches=SwitchMethods(switches, access.stored_switches, cursors),
        erasure=ErasureMethods(parts.erasures),
    )
