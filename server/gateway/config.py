"""Settings of the model gateway."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """Times in seconds. `write_seconds`: how long a piece of an answer may wait for a program that does not read."""

    requests: int = 256
    requests_per_run: int = 16
    body_bytes: int = 32 * 1024 * 1024
    read_seconds: float = 30.0
    write_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("requests", "requests_per_run", "body_bytes", "read_seconds", "write_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
