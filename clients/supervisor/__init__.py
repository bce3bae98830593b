"""Starts host, runtime, box and web chat as processes of their own and keeps them running. Imports no gRPC."""
