"""An agent: which runner, how it is configured, and what it may do."""
