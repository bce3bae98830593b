"""Who did or tried what, and whether it was allowed."""
