"""TokenService on the wire."""

from collections.abc import Callable
from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.rpc.identity import Role
from portway.server.tokens.box_tokens import BoxTokens
from portway.server.tokens.manage import TokenManager
from portway.server.tokens.store import Tokens
from portway.server.tokens.types import Token
from portway.v1 import token_pb2

DEFAULT_PAGE = 50


class TokenServicer:
    def __init__(
        self,
        manager: TokenManager,
        tokens: Tokens,
        cursors: CursorCodec,
        box_tokens: BoxTokens,
        box_address: Callable[[], str],
    ) -> None:
        """`box_address`: where the host reaches the box now, '' for nowhere."""
        self._box_tokens = box_tokens
        self._box_address = box_address
        self._manager = manager
        self._tokens = tokens
        self._cursors = cursors

    async def CreateToken(
        self, request: token_pb2.CreateTokenRequest, call: Call[Never, Never]
    ) -> token_pb2.CreateTokenResponse:
        token, minted = await self._manager.create(
            call.caller,
            name=request.name,
            role=Role(request.role),
            ttl=request.ttl.ToMicroseconds() if request.HasField("ttl") else None,
            request_id=request.request_id,
            workspace_id=request.workspace_id,
            user_id=request.user_id,
        )
        return token_pb2.CreateTokenResponse(token=token_message(token), secret=minted.text)

    async def ListTokens(
        self, request: token_pb2.ListTokensRequest, call: Call[Never, Never]
    ) -> token_pb2.ListTokensResponse:
        workspace_id = call.caller.workspace_id
        listing = f"tokens\0{workspace_id}"
        after = self._cursors.read_page(request.page_token, listing) if request.page_token else ""
        size = request.page_size or DEFAULT_PAGE
        found = await self._tokens.page(workspace_id, after, size)
        return token_pb2.ListTokensResponse(
            tokens=[token_message(one) for one in found],
            next_page_token=self._cursors.write_page(listing, found[-1].token_id) if len(found) == size else "",
        )

    async def RevokeToken(
        self, request: token_pb2.RevokeTokenRequest, call: Call[Never, Never]
    ) -> token_pb2.RevokeTokenResponse:
        token = await self._manager.revoke(call.caller, request.token_id)
        return token_pb2.RevokeTokenResponse(token=token_message(token))

    async def RotateToken(
        self, request: token_pb2.RotateTokenRequest, call: Call[Never, Never]
    ) -> token_pb2.RotateTokenResponse:
        overlap = request.overlap.ToMilliseconds() / 1000
        token, minted = await self._manager.rotate(call.caller, request.token_id, overlap)
        return token_pb2.RotateTokenResponse(token=token_message(token), secret=minted.text)

    async def IssueBoxToken(
        self, request: token_pb2.IssueBoxTokenRequest, call: Call[Never, Never]
    ) -> token_pb2.IssueBoxTokenResponse:
        issued = await self._box_tokens.issue(
            call.caller,
            role=Role(request.role) if request.role else None,
            workspace_id=request.workspace_id,
            seconds=request.ttl.ToMilliseconds() / 1000 if request.HasField("ttl") else None,
        )
        response = token_pb2.IssueBoxTokenResponse(
            secret=issued.text,
            token_id=issued.token_id,
            role=issued.role.value,
            workspace_id=issued.workspace_id,
            box_address=self._box_address(),
        )
        response.expire_time.FromSeconds(issued.expire_time)
        return response


def token_message(token: Token) -> token_pb2.Token:
    """A token without its secret."""
    message = token_pb2.Token(
        token_id=token.token_id,
        name=token.name,
        role=Role[token.role.upper()].value,
        revoked=bool(token.revoke_time),
        workspace_id=token.workspace_id,
        user_id=token.user_id,
    )
    message.create_time.FromMicroseconds(token.create_time)
    if token.expire_time:
        message.expire_time.FromMicroseconds(token.expire_time)
    if token.last_use_time:
        message.last_use_time.FromMicroseconds(token.last_use_time)
    return message
