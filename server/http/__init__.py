"""The host's HTTP surfaces: one small listener, applications mounted on it."""
