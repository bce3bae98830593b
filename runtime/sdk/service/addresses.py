"""Where requests of a runner go: the address that was looked at is the one that is connected to."""

import asyncio
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import httpcore2
import httpx2

from portway.rpc.addresses import Address, Reach, Resolver, literal, reach_of, system_resolver

# Addresses of one name that are tried in turn.
MAX_TRIES = 4
CONNECT_SECONDS = 10.0
# Names that no public registry gives out. A name of one word is looked up in one's own network, too.
_OWN_NAMES = (".localhost", ".local", ".lan", ".internal", ".home.arpa", ".home", ".corp", ".intranet")


class AddressRefused(httpx2.TransportError):
    """A connection would lead to an address that is not asked. Nothing was sent there, nothing was connected."""


@dataclass(frozen=True, slots=True)
class AddressRule:
    """Which addresses are asked. `configured` is the host in the agent's configuration: where that is an address, or a
    name of one's own network, it may be private; with `private_addresses` any name may be. Never asked, whatever is
    configured, are the addresses where a cloud hands out a machine's credentials, and those that are nobody's."""

    configured: str = ""
    private_addresses: bool = False

    def check(self, host: str, addresses: Sequence[Address]) -> None:
        """Raises `AddressRefused`. One forbidden address refuses the name: whoever mixes them wants us to try on."""
        for address in addresses:
            match reach_of(address):
                case Reach.PUBLIC:
                    continue
                case Reach.PRIVATE if self._may_be_private(host):
                    continue
                case Reach.PRIVATE:
                    raise AddressRefused("its name leads to a private address; set private_addresses if that is right")
                case Reach.METADATA:
                    raise AddressRefused("it is at an address where a cloud keeps credentials, which is never asked")
                case Reach.SPECIAL:
                    raise AddressRefused("it is at an address that belongs to no machine")

    def _may_be_private(self, host: str) -> bool:
        if _plain(host) != _plain(self.configured):
            return False
        name = _plain(host)
        own = literal(name) is not None or "." not in name or name.endswith(_OWN_NAMES)
        return own or self.private_addresses


def checked_transport(rule: AddressRule, resolver: Resolver = system_resolver) -> httpx2.AsyncHTTPTransport:
    """A transport that resolves by itself and connects to nothing but what the rule allows."""
    transport = httpx2.AsyncHTTPTransport(verify=_certificates(), trust_env=False)
    # The public constructor takes no network backend; a test holds that connections go through this one.
    transport._pool = httpcore2.AsyncConnectionPool(
        ssl_context=_certificates(),
        max_connections=8,
        network_backend=_CheckedBackend(rule, resolver),
    )
    return transport


@cache
def _certificates() -> ssl.SSLContext:
    """Whom to trust; reading that takes longer than most requests, and does not change."""
    context: ssl.SSLContext = httpx2.create_ssl_context(trust_env=False)
    return context


class _CheckedBackend(httpcore2.AsyncNetworkBackend):
    """A name is resolved once for each connection, so that it cannot change its mind between check and connect."""

    def __init__(self, rule: AddressRule, resolver: Resolver) -> None:
        self._rule = rule
        self._resolver = resolver
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the library's signature)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        deadline = time.monotonic() + (CONNECT_SECONDS if timeout is None else timeout)
        addresses = await self._resolved(host, port, deadline)
        self._rule.check(host, addresses)
        failure: Exception = httpcore2.ConnectError("the name has no address")
        for address in addresses[:MAX_TRIES]:
            left = max(deadline - time.monotonic(), 0.001)
            try:
                return await self._inner.connect_tcp(str(address), port, left, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _resolved(self, host: str, port: int, deadline: float) -> Sequence[Address]:
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0.001)):
                return await self._resolver(host, port)
        except TimeoutError:
            raise httpcore2.ConnectTimeout("the name was not resolved in time") from None
        except (OSError, UnicodeError):
            raise httpcore2.ConnectError("the name cannot be resolved") from None


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()
