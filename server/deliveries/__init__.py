"""What is to be sent, in an outbox until the platform has it."""
