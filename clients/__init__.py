"""Clients of the three servers: the Python SDK, the command line, and what starts everything."""
