"""The MCP bridge of a run: its event, history, knowledge, resources and tools, for programs that the run starts."""
