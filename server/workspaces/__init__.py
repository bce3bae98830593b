"""A workspace: whose everything else is."""
