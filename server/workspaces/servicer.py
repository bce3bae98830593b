"""WorkspaceService on the wire."""

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.workspaces.manage import Wanted, WorkspaceManager
from portway.server.workspaces.store import Workspaces
from portway.server.workspaces.types import Workspace
from portway.v1 import workspace_pb2

DEFAULT_PAGE = 50
_LISTING = "workspaces"


class WorkspaceServicer:
    def __init__(self, manager: WorkspaceManager, workspaces: Workspaces, cursors: CursorCodec) -> None:
        self._manager = manager
        self._workspaces = workspaces
        self._cursors = cursors

    async def CreateWorkspace(
        self, request: workspace_pb2.CreateWorkspaceRequest, call: Call[Never, Never]
    ) -> workspace_pb2.CreateWorkspaceResponse:
        made = await self._manager.create(call.caller, _wanted(request.workspace), request.request_id)
        return workspace_pb2.CreateWorkspaceResponse(workspace=_message(made))

    async def GetWorkspace(
        self, request: workspace_pb2.GetWorkspaceRequest, call: Call[Never, Never]
    ) -> workspace_pb2.GetWorkspaceResponse:
        found = await self._manager.get(call.caller, request.workspace_id)
        return workspace_pb2.GetWorkspaceResponse(workspace=_message(found))

    async def ListWorkspaces(
        self, request: workspace_pb2.ListWorkspacesRequest, call: Call[Never, Never]
    ) -> workspace_pb2.ListWorkspacesResponse:
        after = self._cursors.read_page(request.page_token, _LISTING) if request.page_token else ""
        size = request.page_size or DEFAULT_PAGE
        found = await self._workspaces.page(after, size)
        return workspace_pb2.ListWorkspacesResponse(
            workspaces=[_message(one) for one in found],
            next_page_token=self._cursors.write_page(_LISTING, found[-1].workspace_id) if len(found) == size else "",
        )

    async def UpdateWorkspace(
        self, request: workspace_pb2.UpdateWorkspaceRequest, call: Call[Never, Never]
    ) -> workspace_pb2.UpdateWorkspaceResponse:
        changed = await self._manager.update(call.caller, _wanted(request.workspace))
        return workspace_pb2.UpdateWorkspaceResponse(workspace=_message(changed))


def _wanted(message: workspace_pb2.Workspace) -> Wanted:
    return Wanted(
        workspace_id=message.workspace_id,
        name=message.name,
        revision=message.revision,
        disabled=message.disabled,
        limited=message.HasField("quota") or message.HasField("budget"),
    )


def _message(workspace: Workspace) -> workspace_pb2.Workspace:
    message = workspace_pb2.Workspace(
        workspace_id=workspace.workspace_id,
        name=workspace.name,
        disabled=workspace.disabled,
        revision=workspace.revision,
    )
    message.create_time.FromMicroseconds(workspace.create_time)
    message.update_time.FromMicroseconds(workspace.update_time)
    return message
