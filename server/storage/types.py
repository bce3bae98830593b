"""Larger bytes that the host keeps for plugins, workspaces and agents."""

from dataclasses import dataclass
from enum import StrEnum


class Area(StrEnum):
    """Who shares the bytes."""

    PLUGIN = "plugin"
    WORKSPACE = "workspace"
    BINDING = "binding"


@dataclass(frozen=True, slots=True)
class StorageSpace:
    """One owner's bytes in one area. `owner_id` is the plugin, the agent (BINDING) or '' (WORKSPACE)."""

    workspace_id: str
    area: Area
    owner_id: str


@dataclass(frozen=True, slots=True)
class StoredObject:
    """`value` holds the bytes of a small object; those of a large one are the blob `sha256` (hex)."""

    key: str
    size: int
    sha256: str
    value: bytes
    version: int
    update_time: int


INLINE_LIMIT = 64 * 1024
"""Objects up to this size lie in the row itself."""

ANY_VERSION = -1
"""Write whatever the version is. 0 as expected version means: the key must not exist."""
