"""Small JSON that an agent keeps between runs, by scope. Keyed by agent, never by binding."""
