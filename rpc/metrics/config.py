"""Where a server shows its metrics."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """`listen` is HOST:PORT; '' for nowhere. `token_file` holds the token that a scraper sends, made when it is not
    there; '' in it refuses everybody. Without TLS of the server, `listen` must be loopback."""

    listen: str = ""
    token_file: Path | None = None

    def __post_init__(self) -> None:
        if self.listen:
            host, _, port = self.listen.rpartition(":")
            if not host or not port.isdigit() or int(port) > 65_535:
                raise ValueError("listen must be HOST:PORT, for example 127.0.0.1:9464")
            if self.token_file is None:
                raise ValueError("token_file is missing: nobody reads metrics without a token")
