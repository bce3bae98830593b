"""What a session's network namespace does with connections to other addresses: it hands them to the box's gate.

Every address counts as local there, so nothing leaves the namespace; TCP of them is given to one listening socket,
whose accepted connections know where they were meant to go. Forbidden networks have routes of their own that refuse at
once. A session has no capability over its namespace and cannot change any of it. IPv6 has no route but to ::1.
"""

import ipaddress
import socket
import struct

from portway.box.backends.types import Steering
from portway.box.isolation.netlink import ACK, APPEND, CREATE, Netlink, attribute, message, nested, text

_ROUTE, _NETFILTER = 0, 12
_NEWROUTE = 24
_ROUTE_BODY = struct.Struct("=BBBBBBBBI")
_TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_UNIVERSE, _SCOPE_HOST = 254, 4, 0, 254
_TYPE_LOCAL, _TYPE_PROHIBIT = 2, 8
_RTA_DST, _RTA_OIF, _RTA_PREFSRC = 1, 4, 7

_NFT = 10 << 8
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE = _NFT | 0, _NFT | 3, _NFT | 6
_BATCH_BEGIN, _BATCH_END = 16, 17
_NAME = "portway"
_PREROUTING, _BEFORE_ROUTING = 0, -150
_REGISTER, _VERDICT = 1, 0
_ACCEPT = 1
_TCP = socket.IPPROTO_TCP
_EQUAL, _NOT_EQUAL = 0, 1
_META_PROTOCOL = 16
_NETWORK_HEADER, _DESTINATION_OFFSET = 1, 16


class CannotSteer(Exception):
    """The kernel lacks what it takes; the text says what."""


def steer(steering: Steering) -> None:
    """Sets the namespace up that this process is in. Raises `CannotSteer`."""
    try:
        _add_routes(steering)
        _add_rules(steering.port)
    except OSError as error:
        raise CannotSteer(
            f"this kernel gives no session the network mode ON ({error.strerror}): it needs nf_tables with tproxy "
            "(module nft_tproxy); ask for ALLOW_LIST or OFF"
        ) from None


def _add_routes(steering: Steering) -> None:
    loopback = socket.if_nametoindex("lo")
    kinds = {ipaddress.IPv4Network(network): _TYPE_PROHIBIT for network in steering.refused if ":" not in network}
    for opened in steering.allowed:
        if ":" not in opened:
            kinds[ipaddress.IPv4Network(opened)] = _TYPE_LOCAL
    kinds[ipaddress.IPv4Network("0.0.0.0/0")] = _TYPE_LOCAL
    # The loopback's own addresses are the kernel's, in a table that is looked at before.
    kinds.pop(ipaddress.IPv4Network("127.0.0.0/8"), None)
    with Netlink(_ROUTE) as netlink:
        for network, kind in kinds.items():
            netlink.ask(_NEWROUTE, CREATE | ACK, _route(network, kind, loopback))


def _route(network: ipaddress.IPv4Network, kind: int, loopback: int) -> bytes:
    scope = _SCOPE_HOST if kind == _TYPE_LOCAL else _SCOPE_UNIVERSE
    header = _ROUTE_BODY.pack(socket.AF_INET, network.prefixlen, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, scope, kind, 0)
    body = [header]
    if network.prefixlen:
        body.append(attribute(_RTA_DST, network.network_address.packed))
    if kind == _TYPE_LOCAL:
        body.append(attribute(_RTA_OIF, struct.pack("=I", loopback)))
        body.append(attribute(_RTA_PREFSRC, socket.inet_aton("127.0.0.1")))
    return b"".join(body)


def _add_rules(port: int) -> None:
    rule = _expressions(
        _load_destination(), _compare(_NOT_EQUAL, b"\x7f"),
        _load_protocol(), _compare(_EQUAL, bytes([_TCP])),
        _load_port(port), _to_listener(),
        _accept(),
    )  # fmt: skip
    table = message(_NEW_TABLE, CREATE | ACK, _of(socket.AF_INET) + text(1, _NAME), 2)
    hook = nested(4, _number(1, _PREROUTING), _number(2, _BEFORE_ROUTING))
    chain = _of(socket.AF_INET) + text(1, _NAME) + text(3, _NAME) + hook + text(7, "filter")
    body = _of(socket.AF_INET) + text(1, _NAME) + text(2, _NAME) + rule
    with Netlink(_NETFILTER) as netlink:
        netlink.order(
            message(_BATCH_BEGIN, 0, _of(0, _NFT >> 8)),
            table,
            message(_NEW_CHAIN, CREATE | ACK, chain, 3),
            message(_NEW_RULE, CREATE | APPEND | ACK, body, 4),
            message(_BATCH_END, 0, _of(0, _NFT >> 8), 5),
        )
        netlink.confirm(3)


def _of(family: int, subsystem: int = 0) -> bytes:
    return struct.pack("=BB", family, 0) + struct.pack(">H", subsystem)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">i", value))


def _expressions(*expressions: bytes) -> bytes:
    return nested(4, *expressions)


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *attributes))


def _load_destination() -> bytes:
    """The first byte of the destination."""
    return _expression(
        "payload", _number(1, _REGISTER), _number(2, _NETWORK_HEADER), _number(3, _DESTINATION_OFFSET), _number(4, 1)
    )


def _load_protocol() -> bytes:
    return _expression("meta", _number(1, _REGISTER), _number(2, _META_PROTOCOL))


def _compare(how: int, value: bytes) -> bytes:
    return _expression("cmp", _number(1, _REGISTER), _number(2, how), nested(3, attribute(1, value)))


def _load_port(port: int) -> bytes:
    return _expression("immediate", _number(1, _REGISTER), nested(2, attribute(1, struct.pack(">H", port))))


def _to_listener() -> bytes:
    return _expression("tproxy", _number(1, socket.AF_INET), _number(3, _REGISTER))


def _accept() -> bytes:
    return _expression("immediate", _number(1, _VERDICT), nested(2, nested(2, _number(1, _ACCEPT))))
