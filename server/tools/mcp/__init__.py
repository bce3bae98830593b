"""MCP servers: what operators keep of them, the connection to each, and their tools."""
