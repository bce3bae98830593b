"""Which agent answers which events."""
