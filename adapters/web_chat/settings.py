"""The settings of the web chat: section `web` of the configuration."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from portway.rpc.channel import ClientTls

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class WebSettings:
    """`listen` is `address:port`; port 0 picks a free one. `origins` are the addresses at which browsers reach the page
    where that is not the listening address itself, for example `https://chat.example.org` behind a proxy. `host_tls`
    (`ca: FILE`) is for a host that serves over TLS."""

    listen: str = "127.0.0.1:7780"
    origins: tuple[str, ...] = ()
    adapter_id: str = "web_chat"
    max_connections: int = 256
    host_tls: ClientTls | None = None

    def __post_init__(self) -> None:
        address, _, port = self.listen.rpartition(":")
        if not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"listen: {self.listen!r} is not address:port, for example 127.0.0.1:7780")
        for origin in self.origins:
            parts = urlsplit(origin)
            if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path not in ("", "/"):
                raise ValueError(
                    f"origins: {origin!r} is not scheme://host[:port], for example https://chat.example.org"
                )
        if not self.origins and not _is_loopback(address):
            raise ValueError(
                f"listen: {address} is reachable from other machines. Say in `origins` under which addresses the page "
                "is opened there, for example https://chat.example.org; or listen on 127.0.0.1"
            )
        if not 1 <= self.max_connections <= 10_000:
            raise ValueError("max_connections must be between 1 and 10000")

    @property
    def address(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])


def _is_loopback(address: str) -> bool:
    bare = address.strip("[]")
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Places:
    """Under which names the page may be opened. Any other name is somebody else's page that points here."""

    hosts: frozenset[str]
    origins: frozenset[str]
    secure: bool

    @classmethod
    def of(cls, settings: WebSettings, port: int) -> "Places":
        if settings.origins:
            origins = {origin.rstrip("/").lower() for origin in settings.origins}
        else:
            origins = set()
        if _is_loopback(settings.address):
            origins |= {f"http://{name}{_suffix('http', port)}" for name in ("127.0.0.1", "localhost", "[::1]")}
        hosts = {origin.split("://", 1)[1] for origin in origins}
        secure = bool(settings.origins) and all(origin.startswith("https://") for origin in settings.origins)
        return cls(frozenset(hosts), frozenset(origins), secure)


def _suffix(scheme: str, port: int) -> str:
    return "" if port == _DEFAULT_PORTS[scheme] else f":{port}"
