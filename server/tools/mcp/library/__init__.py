"""The MCP library. Importing this folder's modules loads it: `connect.py` above is the one place that does."""
