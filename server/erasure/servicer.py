"""The methods of WorkspaceService that erase."""

from typing import Never

from portway.rpc.call import Call
from portway.rpc.errors import InvalidInput
from portway.server.erasure.keep import ErasureKeeper
from portway.v1 import workspace_pb2 as pb

_Call = Call[Never, Never]


class ErasureMethods:
    def __init__(self, keeper: ErasureKeeper) -> None:
        self._keeper = keeper

    async def erase(self, request: pb.EraseDataRequest, call: _Call) -> pb.EraseDataResponse:
        if request.user_id:
            done = await self._keeper.user(call.caller, request.user_id, request.reason)
        elif request.conversation_id:
            done = await self._keeper.conversation(call.caller, request.conversation_id, request.reason)
        else:
            raise InvalidInput.field("subject", "names a user or a conversation")
        return pb.EraseDataResponse(
            redacted_count=done.redacted, deleted_artifact_count=done.artifacts, erasure_id=done.erasure_id
        )

    async def delete_workspace(self, request: pb.DeleteWorkspaceRequest, call: _Call) -> pb.DeleteWorkspaceResponse:
        await self._keeper.workspace(call.caller, request.workspace_id, force=request.force)
        return pb.DeleteWorkspaceResponse()
