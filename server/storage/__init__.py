"""Larger bytes that the host keeps for plugins, workspaces and agents."""
