"""What kind of address a request would reach, however it is spelled, and to which addresses a name resolves."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Where clouds hand out the machine's own credentials, besides the link-local addresses.
_METADATA = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")})
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")


class Reach(StrEnum):
    """Where an address lies. Only PUBLIC is reached without being asked for."""

    PUBLIC = "public"
    PRIVATE = "private"
    METADATA = "link-local or metadata"
    SPECIAL = "reserved"


def literal(host: str) -> Address | None:
    """The address that `host` spells, also as `2130706433`, `0x7f.1` or `127.1`, which resolvers understand too; `None`
    for a name."""
    bare = host.strip("[]").partition("%")[0].rstrip(".")
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        pass
    if not bare or bare.split() != [bare]:
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(bare))
    except (OSError, UnicodeEncodeError):
        return None


def reach_of(address: Address) -> Reach:
    """Where it lies; an IPv4 address inside an IPv6 one counts as itself."""
    inner = _embedded(address)
    if inner is not None:
        return reach_of(inner)
    if address.is_link_local or address in _METADATA:
        return Reach.METADATA
    if address.is_multicast or address.is_unspecified or (address.version == 4 and address in _THIS_NETWORK):
        return Reach.SPECIAL
    if address.is_global:
        return Reach.PUBLIC
    return Reach.SPECIAL if address.is_reserved and not address.is_loopback else Reach.PRIVATE


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


def network(text: str) -> Network | None:
    """The network or single address that `text` names; `None` for a name of a host."""
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


async def system_resolver(host: str, port: int) -> Sequence[Address]:
    """What this machine resolves the name to, in its order of preference. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = (literal(str(where[0])) for *_, where in found)
    return list(dict.fromkeys(one for one in addresses if one is not None))
