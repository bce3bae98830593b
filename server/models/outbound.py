"""What requests to one provider may do: where they go, how long they wait, how much they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from portway.server.models.config import ProviderTimeouts

# The vendors' own services, where the configuration names no other.
OPENAI_BASE_URL = "https://api.openai.com/v1"
ANTHROPIC_BASE_URL = "https://api.anthropic.com"

_DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: the only place that a provider's requests may go to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of a base URL; `ValueError` says what is wrong with it, without repeating it."""
        parts = urlsplit(url)
        if parts.scheme not in _DEFAULT_PORTS:
            raise ValueError("it must begin with https:// or http://")
        if not parts.hostname:
            raise ValueError("it names no host")
        if parts.username or parts.password:
            raise ValueError("it must not hold a user or a password; put keys into api_key or headers")
        return cls(parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme])

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class OutboundPolicy:
    """The policy of one provider. A private address is fine here, because only the operator can configure an origin.

    Redirects are not followed: they would carry the key elsewhere.
    """

    origin: Origin
    timeouts: ProviderTimeouts
    max_answer_bytes: int
    proxy: str = field(default="", repr=False)
