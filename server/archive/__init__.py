"""Archives of everything that a host keeps: backups, portable exports, and how they come back."""
