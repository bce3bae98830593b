"""The owner's end of sockets inside sessions: each connection is an ordinary transport of asyncio."""
