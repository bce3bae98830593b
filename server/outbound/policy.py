"""What requests to others may do: where they go, how long they wait, how much they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, urlsplit

from portway.rpc.addresses import Address, Reach, literal, network, reach_of
from portway.rpc.errors import NotPermitted, Reason

SCHEMES = ("https", "http")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class OutboundPolicy:
    """The section `outbound` of the configuration. One host or many: names (`api.example.com`), names below one
    (`*.example.com`), addresses and networks (`10.1.0.0/16`).

    `allowed_hosts` empty allows all that are not denied; a denial is stronger. Loopback and private addresses are
    reached only when `private_addresses` is true or the host is in `private_hosts`; link-local and metadata addresses
    only when `private_hosts` names the address itself. What counts is the address that is connected to, not the name.

    Seconds: `connect_timeout`, `read_timeout` (the longest silence), `total_timeout` (the whole exchange, so that a
    server which sends a byte at a time ends too). `max_response_bytes` counts after decompression. 0 lifts the last two
    for a stream whose reader has limits of its own.
    """

    schemes: tuple[str, ...] = SCHEMES
    allowed_hosts: tuple[str, ...] = ()
    denied_hosts: tuple[str, ...] = ()
    private_addresses: bool = False
    private_hosts: tuple[str, ...] = ()
    max_response_bytes: int = 64 * 1024 * 1024
    connect_timeout: float = 10.0
    read_timeout: float = 120.0
    total_timeout: float = 600.0

    def __post_init__(self) -> None:
        for scheme in self.schemes:
            if scheme not in SCHEMES:
                raise ValueError(f"schemes: there is no scheme {scheme!r} here; name https, http or both")
        for name in ("connect_timeout", "read_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")
        for name in ("total_timeout", "max_response_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more")

    def with_private_host(self, host: str) -> OutboundPolicy:
        """The policy for a place that the operator wrote into the configuration file, which may be private."""
        return replace(self, private_hosts=(*self.private_hosts, host))

    def check(self, url: str) -> None:
        """What the URL itself tells. Raises NotPermitted; the connection is checked again by the resolved address."""
        parts = self._parts(url)
        host = _plain(parts.hostname or "")
        if self.allowed_hosts and not _listed(host, self.allowed_hosts):
            raise _refused(host, "is not in outbound.allowed_hosts; add it there if it should be reached")
        if _listed(host, self.denied_hosts):
            raise _refused(host, "is in outbound.denied_hosts")
        address = literal(host)
        if address is not None:
            self.check_address(host, address)
        elif host == "localhost" or host.endswith(".localhost"):
            self._check_reach(host, None, Reach.PRIVATE)

    def check_address(self, host: str, address: Address) -> None:
        """Whether a connection that was asked for as `host` may go to `address`. Raises NotPermitted."""
        if any(address in net for net in map(network, self.denied_hosts) if net and net.version == address.version):
            raise _refused(host, "has an address in outbound.denied_hosts")
        self._check_reach(_plain(host), address, reach_of(address))

    def _check_reach(self, host: str, address: Address | None, reach: Reach) -> None:
        if reach is Reach.PUBLIC or (reach is Reach.PRIVATE and self.private_addresses):
            return
        for entry in self.private_hosts:
            net = network(entry)
            if net is None and reach is Reach.PRIVATE and _matches(host, entry):
                return
            if net is not None and address is not None and net.version == address.version and address in net:
                return
        # The address is not told: whoever gave the URL may not know how the names of this network resolve.
        raise _refused(host, f"has a {reach} address; an operator can allow it in outbound.private_hosts")

    def _parts(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise NotPermitted("an outbound URL cannot be read; check it", reason=Reason.REFUSED_BY_POLICY) from None
        if parts.scheme not in self.schemes:
            allowed = " or ".join(f"{one}://" for one in self.schemes)
            raise NotPermitted(f"an outbound URL must begin with {allowed}", reason=Reason.REFUSED_BY_POLICY)
        if not parts.hostname:
            raise NotPermitted("an outbound URL names no host", reason=Reason.REFUSED_BY_POLICY)
        if parts.username or parts.password:
            text = "an outbound URL must not hold a user or a password; give them as a secret of their own"
            raise NotPermitted(text, reason=Reason.REFUSED_BY_POLICY)
        return parts


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: the only place that requests with somebody's key may go to."""

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
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def _plain(host: str) -> str:
    return host.rstrip(".").lower()


def _listed(host: str, entries: Sequence[str]) -> bool:
    return any(_matches(host, entry) for entry in entries)


def _matches(host: str, entry: str) -> bool:
    net, address = network(entry), literal(host)
    if net is not None:
        return address is not None and address.version == net.version and address in net
    wanted = _plain(entry)
    return host.endswith(wanted[1:]) if wanted.startswith("*.") else host == wanted


def _refused(host: str, why: str) -> NotPermitted:
    return NotPermitted(f"the host {host[:200]!r} {why}", reason=Reason.REFUSED_BY_POLICY)
