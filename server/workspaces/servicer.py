"""WorkspaceService on the wire."""

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.erasure.servicer import ErasureMethods
from portway.server.switches.servicer import SwitchMethods
from portway.server.users.servicer import UserMethods
from portway.server.workspaces.manage import WorkspaceManager
from portway.server.workspaces.store import Workspaces
from portway.server.workspaces.wire import wanted_workspace, workspace_message
from portway.v1 import workspace_pb2

DEFAULT_PAGE = 50
_LISTING = "workspaces"


class WorkspaceServicer:
    """Users, kill switches and erasures have folders of their own."""

    def __init__(
        self,
        manager: WorkspaceManager,
        workspaces: Workspaces,
        cursors: CursorCodec,
        *,
        users: UserMethods,
        switches: SwitchMethods,
        erasure: ErasureMethods,
    ) -> None:
        self._users = users
        self._switches = switches
        self._erasure = erasure
        self._manager = manager
        self._workspaces = workspaces
        self._cursors = cursors

    async def CreateWorkspace(
        self, request: workspace_pb2.CreateWorkspaceRequest, call: Call[Never, Never]
    ) -> workspace_pb2.CreateWorkspaceResponse:
        made = await self._manager.create(call.caller, wanted_workspace(request.workspace), request.request_id)
        return workspace_pb2.CreateWorkspaceResponse(workspace=workspace_message(made))

    async def GetWorkspace(
        self, request: workspace_pb2.GetWorkspaceRequest, call: Call[Never, Never]
    ) -> workspace_pb2.GetWorkspaceResponse:
        found = await self._manager.get(call.caller, request.workspace_id)
        return workspace_pb2.GetWorkspaceResponse(workspace=workspace_message(found))

    async def ListWorkspaces(
        self, request: workspace_pb2.ListWorkspacesRequest, call: Call[Never, Never]
    ) -> workspace_pb2.ListWorkspacesResponse:
        after = self._cursors.read_page(request.page_token, _LISTING) if request.page_token else ""
        size = request.page_size or DEFAULT_PAGE
        found = await self._workspaces.page(after, size)
        return workspace_pb2.ListWorkspacesResponse(
            workspaces=[workspace_message(one) for one in found],
            next_page_token=self._cursors.write_page(_LISTING, found[-1].workspace_id) if len(found) == size else "",
        )

    async def UpdateWorkspace(
        self, request: workspace_pb2.UpdateWorkspaceRequest, call: Call[Never, Never]
    ) -> workspace_pb2.UpdateWorkspaceResponse:
        changed = await self._manager.update(call.caller, wanted_workspace(request.workspace))
        return workspace_pb2.UpdateWorkspaceResponse(workspace=workspace_message(changed))

    async def DeleteWorkspace(
        self, request: workspace_pb2.DeleteWorkspaceRequest, call: Call[Never, Never]
    ) -> workspace_pb2.DeleteWorkspaceResponse:
        return await self._erasure.delete_workspace(request, call)

    async def EraseData(
        self, request: workspace_pb2.EraseDataRequest, call: Call[Never, Never]
    ) -> workspace_pb2.EraseDataResponse:
        return await self._erasure.erase(request, call)

    async def CreateUser(
        self, request: workspace_pb2.CreateUserRequest, call: Call[Never, Never]
    ) -> workspace_pb2.CreateUserResponse:
        return await self._users.create(request, call)

    async def GetUser(
        self, request: workspace_pb2.GetUserRequest, call: Call[Never, Never]
    ) -> workspace_pb2.GetUserResponse:
        return await self._users.get(request, call)

    async def ListUsers(
        self, request: workspace_pb2.ListUsersRequest, call: Call[Never, Never]
    ) -> workspace_pb2.ListUsersResponse:
        return await self._users.list(request, call)

    async def UpdateUser(
        self, request: workspace_pb2.UpdateUserRequest, call: Call[Never, Never]
    ) -> workspace_pb2.UpdateUserResponse:
        return await self._users.update(request, call)

    async def DeleteUser(
        self, request: workspace_pb2.DeleteUserRequest, call: Call[Never, Never]
    ) -> workspace_pb2.DeleteUserResponse:
        return await self._users.delete(request, call)

    async def SetKillSwitch(
        self, request: workspace_pb2.SetKillSwitchRequest, call: Call[Never, Never]
    ) -> workspace_pb2.SetKillSwitchResponse:
        return await self._switches.set(request, call)

    async def ListKillSwitches(
        self, request: workspace_pb2.ListKillSwitchesRequest, call: Call[Never, Never]
    ) -> workspace_pb2.ListKillSwitchesResponse:
        return await self._switches.list(request, call)
