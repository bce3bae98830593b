"""What this host sends to one provider: how many calls at a time, in which order, how fast, and how often again."""
