"""Access tokens. Only the hash of a secret is kept."""
