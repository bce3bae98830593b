"""Where no service is: the addresses at which machines of a cloud hand out their own credentials."""

import ipaddress
from collections.abc import Iterable
from typing import Any

import httpcore2
import httpx2

_METADATA = frozenset({"fd00:ec2::254", "100.100.100.200"})


class AddressRefused(Exception):
    """A connection led to such an address. Nothing was sent."""


def checked_transport() -> httpx2.AsyncHTTPTransport:
    """A transport that looks at the address that it is connected to, before it sends anything."""
    transport = httpx2.AsyncHTTPTransport(trust_env=False)
    # The public constructor takes no network backend; a test holds that connections go through this one.
    transport._pool = httpcore2.AsyncConnectionPool(
        ssl_context=httpx2.create_ssl_context(trust_env=False),
        max_connections=8,
        network_backend=_CheckedBackend(),
    )
    return transport


def refused_address(text: str) -> bool:
    """Whether requests never go there: link-local and multicast addresses, and those of metadata services."""
    address = ipaddress.ip_address(text.partition("%")[0])
    inner = getattr(address, "ipv4_mapped", None) or address
    return bool(inner.is_link_local or inner.is_multicast or str(inner) in _METADATA)


class _CheckedBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self) -> None:
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the library's signature)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        stream = await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        peer: Any = stream.get_extra_info("server_addr")
        if refused_address(str(peer[0])):
            await stream.aclose()
            raise AddressRefused("it is at an address where a cloud keeps credentials, which is never asked")
        return stream
