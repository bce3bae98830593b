"""Ownership put together for a host."""

from portway.server.adapters.connection import Connections
from portway.server.ownership.boxed import Boxed
from portway.server.ownership.here import Here
from portway.server.ownership.kept import kept_sources
from portway.server.ownership.pages import Owned
from portway.server.parts import Parts
from portway.server.workspaces.types import DEFAULT_WORKSPACE


def build_owned(parts: Parts, connections: Connections) -> Owned:
    """Of everything that the host has."""
    stores = parts.stores
    here = Here(parts.live, stores.blobs, connections, parts.mcp.fleet)
    sources = kept_sources(stores.database.reader, DEFAULT_WORKSPACE)
    return Owned(sources, stores.runs, stores.conversations, here, Boxed(parts.box), stores.cursors)
