"""What happened: the log of everything that was accepted."""
