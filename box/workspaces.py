"""Whose session a request is about."""

from portway.rpc.errors import NotFound, NotPermitted, Reason
from portway.rpc.identity import Caller

EVERY_WORKSPACE = "*"
DEFAULT_WORKSPACE = "default"


def workspace_of(caller: Caller, named: str, kind: str = "workspace") -> str:
    """The workspace of a request. A caller of one workspace that names another learns nothing about it."""
    if caller.workspace_id == EVERY_WORKSPACE:
        return named or DEFAULT_WORKSPACE
    if named and named != caller.workspace_id:
        raise NotFound.of(kind, named)
    return caller.workspace_id


def require_every_workspace(caller: Caller) -> None:
    """For what touches everybody's sessions. Raises `NotPermitted` for a caller of one workspace."""
    if caller.workspace_id != EVERY_WORKSPACE:
        raise NotPermitted(
            "this is for the whole box, and the token is of one workspace; use an administrator's",
            reason=Reason.NOT_GRANTED,
        )
