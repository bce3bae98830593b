"""What the gate is told of a session, and what it tells of it."""

from dataclasses import dataclass

# The session's own loopback. Not ports that programs usually take; the session's own programs come later anyway.
PROXY_PORT = 8118
STEERED_PORT = 8119


@dataclass(frozen=True, slots=True)
class NetworkUsage:
    """Since the session was made. Bytes through the gate, connections that it made, requests that it refused."""

    sent_bytes: int = 0
    received_bytes: int = 0
    connection_count: int = 0
    refused_count: int = 0

    def __add__(self, other: "NetworkUsage") -> "NetworkUsage":
        return NetworkUsage(
            self.sent_bytes + other.sent_bytes,
            self.received_bytes + other.received_bytes,
            self.connection_count + other.connection_count,
            self.refused_count + other.refused_count,
        )
