"""Whose session a request is about."""

from portway.rpc.errors import NotFound
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
