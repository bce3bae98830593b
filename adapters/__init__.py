"""Adapters: one process per chat platform, each a gRPC client of the host."""
