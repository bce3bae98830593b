"""Reaching the box: with the token that is there, where the box knows it, or with one that the host signs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from portway.clients.box import Box
from portway.clients.cli import session
from portway.clients.endpoint import Endpoint
from portway.clients.host import CALL_SECONDS
from portway.rpc.errors import WrongState
from portway.rpc.status import errors_by_meaning
from portway.v1 import options_pb2, token_pb2

Workspace = Annotated[str, typer.Option("--workspace", help="Workspace; empty: your own.")]
Json = Annotated[bool, session.JSON_OPTION]

# A box knows administrators, services and what the host signs; other tokens are the host's alone.
_KNOWN_TO_THE_BOX = ("admin", "service", "pass")


class ReachedBox:
    """A box, and in which workspace. `again` dials anew, with a new token where the host signs them."""

    def __init__(self, endpoint: Endpoint, workspace_id: str, seconds: int) -> None:
        self._endpoint = endpoint
        self._seconds = seconds
        self.workspace_id = workspace_id
        self.box: Box

    async def again(self) -> None:
        """Raises by meaning: Unavailable where the host that signs cannot be reached."""
        endpoint = self._endpoint
        address, token = endpoint.box, endpoint.token
        if not is_known_to_the_box(token):
            signed = await issue(endpoint, self.workspace_id, 0, self._seconds)
            address, token = address or signed.box_address, signed.secret
            self.workspace_id = signed.workspace_id
        if not address:
            raise WrongState("no box: set PORTWAY_BOX, or look at `portway status` for why it does not run")
        old = getattr(self, "box", None)
        self.box = Box(address, token=token, tls=endpoint.tls)
        if old is not None:
            await old.__aexit__(None, None, None)


def is_known_to_the_box(token: str) -> bool:
    """By its kind; whether it is good is for the box to say."""
    return token.startswith(tuple(f"pw_{kind}_" for kind in _KNOWN_TO_THE_BOX))


async def issue(endpoint: Endpoint, workspace_id: str, role: int, seconds: int) -> token_pb2.IssueBoxTokenResponse:
    """A token for the box, signed by the host. Role 0: as much as the caller has."""
    request = token_pb2.IssueBoxTokenRequest(workspace_id=workspace_id, role=options_pb2.Role.ValueType(role))
    request.ttl.FromSeconds(seconds)
    async with session.host(endpoint) as host:
        with errors_by_meaning():
            return await host.tokens.IssueBoxToken(request, timeout=CALL_SECONDS)


@asynccontextmanager
async def reached(endpoint: Endpoint, workspace_id: str = "", *, seconds: int = 900) -> AsyncIterator[ReachedBox]:
    """Dialled, for the block. `seconds`: how long a token that has to be signed is to work."""
    found = ReachedBox(endpoint, workspace_id, seconds)
    await found.again()
    try:
        yield found
    finally:
        await found.box.__aexit__(None, None, None)
