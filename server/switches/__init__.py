"""Kill switches: an agent, a bot, a model or a tool that is stopped at once."""
