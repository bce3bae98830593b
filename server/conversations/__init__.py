"""Where messages belong."""
