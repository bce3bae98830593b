"""Calls that change the world: written down before they are made."""
