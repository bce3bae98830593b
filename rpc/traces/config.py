"""The section `telemetry`: where traces go."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class TelemetryConfig:
    """`otlp_endpoint` is a collector's URL for OTLP over HTTP, such as `http://127.0.0.1:4318/v1/traces`; '' for none.
    `ratio` of all traces are recorded; `headers` go with every request, for collectors that want a key."""

    otlp_endpoint: str = ""
    ratio: float = 1.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, metadata={"secret": True})
    timeout: float = 5.0

    def __post_init__(self) -> None:
        url = urlsplit(self.otlp_endpoint)
        if self.otlp_endpoint and (url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc):
            raise ValueError(
                "otlp_endpoint must be a URL such as http://127.0.0.1:4318/v1/traces; keys go into headers"
            )
        if not 0 <= self.ratio <= 1:
            raise ValueError("ratio must be between 0 and 1")
        if self.timeout <= 0:
            raise ValueError("timeout must be more than 0")
