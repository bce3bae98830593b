"""Which addresses sessions may reach: public ones of others, and what the operator allows beside them."""

import socket
import struct
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from portway.box.isolation.netlink import Netlink, attribute, attributes
from portway.box.network.names import Address

Network = IPv4Network | IPv6Network

# What is not an address of one host in the internet: https://www.iana.org/assignments/iana-ipv4-special-registry
NOT_PUBLIC: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        # In IPv6 only 2000::/3 is public at all; below it, ways to write an address of IPv4, and what is reserved.
        "::/3", "4000::/2", "8000::/1", "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
    )
)  # fmt: skip
# Never open, whatever the operator says: what listens there listens for the machine alone.
LOOPBACK: tuple[Network, ...] = (
    ip_network("127.0.0.0/8"), ip_network("0.0.0.0/8"), ip_network("::/127"), ip_network("::ffff:0:0/96")
)  # fmt: skip
# Open only where an operator names the single host: credentials of the machine are told there.
_LINK_LOCAL: tuple[Network, ...] = (ip_network("169.254.0.0/16"), ip_network("fe80::/10"))

_ROUTE, _GET_ROUTE = 0, 26
_ROUTE_BODY = struct.Struct("=BBBBBBBBI")
_DESTINATION = 1
_TYPE_AT, _UNICAST = 7, 1
_GET_ADDRESS = 22
_ADDRESS_BODY = struct.Struct("=BBBBI")
_ADDRESS, _LOCAL = 1, 2


def networks_of(texts: Iterable[str]) -> tuple[Network, ...]:
    """Raises `ValueError` for what is no network."""
    return tuple(ip_network(text) for text in texts)


def is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def leaves_machine(address: Address) -> bool:
    """Whether the kernel would send packets for it to another machine: not to itself, nor to everybody.

    Asked anew for each connection: addresses of a machine come and go. What has no route leaves nowhere.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = _ROUTE_BODY.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    with Netlink(_ROUTE) as netlink:
        try:
            route = netlink.ask(_GET_ROUTE, 0, body + attribute(_DESTINATION, address.packed))
        except OSError:
            return False
    return len(route) > _TYPE_AT and route[_TYPE_AT] == _UNICAST


def own_addresses() -> list[Address]:
    """The addresses that this machine has now."""
    with Netlink(_ROUTE) as netlink:
        answers = netlink.list(_GET_ADDRESS, _ADDRESS_BODY.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
    found = [attributes(answer[_ADDRESS_BODY.size :]) for answer in answers]
    return [ip_address(each.get(_LOCAL, each.get(_ADDRESS, b""))) for each in found if _ADDRESS in each]


class AddressRules:
    """The rules of this box. `allowed` opens what is not public; `denied` closes, and wins."""

    def __init__(
        self,
        allowed: Iterable[str],
        denied: Iterable[str],
        leaves_machine: Callable[[Address], bool] = leaves_machine,
    ) -> None:
        self._allowed = networks_of(allowed)
        self._denied = networks_of(denied)
        self._hosts = frozenset(
            network.network_address for network in self._allowed if network.prefixlen == network.max_prefixlen
        )
        self._leaves_machine = leaves_machine

    def objection(self, address: Address) -> str:
        """Why a session may not reach it, in words; empty where it may."""
        if is_in(address, LOOPBACK):
            return "is the machine's own"
        if is_in(address, self._denied):
            return "lies in a network that the operator denies"
        named = address in self._hosts
        if is_in(address, _LINK_LOCAL) and not named:
            return "is link-local"
        if is_in(address, NOT_PUBLIC) and not is_in(address, self._allowed):
            return "is not public"
        if not named and not self._leaves_machine(address):
            return "is the machine's own, or there is no way to it"
        return ""


def objection_to_setting(network: Network) -> str:
    """Why an operator cannot allow a network; empty where it can be."""
    if any(network.version == other.version and network.overlaps(other) for other in LOOPBACK):
        return "the machine's loopback is never open to sessions"
    return ""
