"""Calls of the components of plugins, and what those may ask the host meanwhile."""
