"""Callers of other roles and workspaces than the administrator that a test begins with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from portway.rpc.channel import PortwayChannel, open_channel
from portway.v1 import options_pb2, token_pb2
from tests.asking import ask
from tests.server.hosting import Hosted


async def make_token(served: Hosted, role: str, workspace_id: str = "") -> token_pb2.CreateTokenResponse:
    """A token, made as administrators make them."""
    number = options_pb2.Role.Value(f"ROLE_{role.upper()}")
    request = token_pb2.CreateTokenRequest(name=f"test {role}", role=number, workspace_id=workspace_id)
    made: token_pb2.CreateTokenResponse = await ask(served.channel, request)
    return made


@asynccontextmanager
async def calling_as(served: Hosted, role: str, workspace_id: str = "") -> AsyncIterator[PortwayChannel]:
    """A channel of somebody with that role."""
    made = await make_token(served, role, workspace_id)
    async with open_channel(served.address, token=made.secret) as channel:
        yield channel
