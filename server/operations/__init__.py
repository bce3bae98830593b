"""Looking after what the host keeps: sizes, retention now, keys."""
