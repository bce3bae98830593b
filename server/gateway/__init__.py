"""The model gateway: models of a run in the shapes of OpenAI and Anthropic, for programs that the run starts."""
