"""The methods of WorkspaceService about users."""

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.rpc.identity import Role
from portway.server.users.manage import UserManager
from portway.server.users.store import Users
from portway.server.users.types import User, UserSpec
from portway.v1 import workspace_pb2 as pb

DEFAULT_PAGE = 50
_Call = Call[Never, Never]


class UserMethods:
    def __init__(self, manager: UserManager, users: Users, cursors: CursorCodec) -> None:
        self._manager = manager
        self._users = users
        self._cursors = cursors

    async def create(self, request: pb.CreateUserRequest, call: _Call) -> pb.CreateUserResponse:
        user = await self._manager.create(call.caller, request.user.user_id, _spec(request.user), request.request_id)
        return pb.CreateUserResponse(user=_message(user))

    async def get(self, request: pb.GetUserRequest, call: _Call) -> pb.GetUserResponse:
        return pb.GetUserResponse(user=_message(await self._users.user(call.caller.workspace_id, request.user_id)))

    async def list(self, request: pb.ListUsersRequest, call: _Call) -> pb.ListUsersResponse:
        workspace_id, size = call.caller.workspace_id, request.page_size or DEFAULT_PAGE
        listing = f"users\0{workspace_id}"
        after = self._cursors.read_page(request.page_token, listing) if request.page_token else ""
        found = await self._users.page(workspace_id, after, size)
        return pb.ListUsersResponse(
            users=[_message(user) for user in found],
            next_page_token=self._cursors.write_page(listing, found[-1].user_id) if len(found) == size else "",
        )

    async def update(self, request: pb.UpdateUserRequest, call: _Call) -> pb.UpdateUserResponse:
        wanted = request.user
        user = await self._manager.update(call.caller, wanted.user_id, _spec(wanted), wanted.revision)
        return pb.UpdateUserResponse(user=_message(user))

    async def delete(self, request: pb.DeleteUserRequest, call: _Call) -> pb.DeleteUserResponse:
        await self._manager.delete(call.caller, request.user_id)
        return pb.DeleteUserResponse()


def _spec(message: pb.User) -> UserSpec:
    # An unset role is refused with the others that a user cannot have.
    role = Role(message.role) if message.role else Role.RUNNER
    return UserSpec(name=message.name, role=role, actor_ids=tuple(message.actor_ids), disabled=message.disabled)


def _message(user: User) -> pb.User:
    message = pb.User(
        user_id=user.user_id,
        name=user.spec.name,
        role=user.spec.role.value,
        actor_ids=user.spec.actor_ids,
        disabled=user.spec.disabled,
        revision=user.revision,
    )
    message.create_time.FromMicroseconds(user.create_time)
    return message
