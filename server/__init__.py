"""The host: the only process that holds data."""
