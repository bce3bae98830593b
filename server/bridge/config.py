"""Settings of the MCP bridge."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BridgeLimits:
    """Times in seconds. `direct_tools`: an agent with at most so many tools has each of them listed as an MCP tool of
    its own; one with more is told of `tool_detail` and `tool_call` alone. `heartbeat`: how often a call that takes long
    says that it goes on. `write_seconds`: how long a piece of an answer may wait for a program that does not read."""

    calls: int = 256
    calls_per_run: int = 16
    sessions_per_run: int = 16
    direct_tools: int = 16
    message_bytes: int = 1024 * 1024
    answer_bytes: int = 4 * 1024 * 1024
    read_seconds: float = 30.0
    write_seconds: float = 30.0
    heartbeat: float = 10.0

    def __post_init__(self) -> None:
        positive = ("calls", "calls_per_run", "sessions_per_run", "message_bytes", "answer_bytes")
        for name in (*positive, "read_seconds", "write_seconds", "heartbeat"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        if self.direct_tools < 0:
            raise ValueError("direct_tools must be 0 or more")
