"""What the host keeps for adapters, so that they need no disk of their own."""
