"""People of a workspace: their role, and who they are on platforms."""
