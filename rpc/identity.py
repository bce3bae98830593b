"""Who calls. A server learns it from the connection and the token alone, never from what a message claims."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from portway.v1 import options_pb2

# Where a token travels: the metadata `authorization: Bearer pw_…`.
AUTHORIZATION = "authorization"
BEARER = "Bearer "


class Role(IntEnum):
    """What a principal may be; the numbers are those of the contract."""

    ADMIN = options_pb2.ROLE_ADMIN
    OPERATOR = options_pb2.ROLE_OPERATOR
    ADAPTER = options_pb2.ROLE_ADAPTER
    RUNTIME = options_pb2.ROLE_RUNTIME
    BOX = options_pb2.ROLE_BOX
    NODE = options_pb2.ROLE_NODE
    RUNNER = options_pb2.ROLE_RUNNER
    VIEWER = options_pb2.ROLE_VIEWER
    MEMBER = options_pb2.ROLE_MEMBER


class Peer:
    """The other end of the connection. Looked up only when asked for: few authenticators want to know."""

    __slots__ = ("_look_up",)

    def __init__(self, look_up: Callable[[], str]) -> None:
        self._look_up = look_up

    @property
    def address(self) -> str:
        """As gRPC writes it: `ipv4:127.0.0.1:50312`, or `unix:` for every local socket."""
        return self._look_up()


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated principal. `subject` says whom the token stands for: a run, an adapter, a node, a person.

    `user_id` is the person whose token it is, where it is one's; `peer` where the call comes from.
    """

    role: Role
    workspace_id: str
    token_id: str
    subject: str = ""
    user_id: str = ""
    peer: str = field(default="", compare=False)

    @property
    def principal(self) -> str:
        """Whose calls are counted together: a person's over all tokens, else a token's."""
        return f"{self.workspace_id}/{self.user_id}" if self.user_id else self.token_id


class Authenticator(Protocol):
    async def authenticate(self, token: str, peer: Peer) -> Caller:
        """The caller behind a bearer token. Raises `NotAuthenticated`, the same for unknown and wrong secrets."""
        ...
