"""How the whole installation is."""
