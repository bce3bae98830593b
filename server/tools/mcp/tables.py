"""Table of MCP servers."""

from sqlalchemy import Table

from portway.server.storage_engine.columns import metadata, number, text

mcp_servers = Table(
    "mcp_servers",
    metadata,
    text("workspace_id", primary_key=True),
    text("server_id", primary_key=True),
    number("revision"),
    text("managed_by"),
    text("spec"),
    number("create_time"),
    number("update_time"),
)
