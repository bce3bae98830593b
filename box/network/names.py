"""Hosts and ports as people and programs write them, brought into one form or refused."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address
# A name in lower case and ASCII without a dot at its end, or an address.
Host = str | IPv4Address | IPv6Address

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[0-9]{1,5}")
_LONGEST_NAME = 253
_HIGHEST_PORT = 65_535


class BadName(ValueError):
    """What was given is no host or port; the text says why."""


def host_of(text: str) -> Host:
    """The host that `text` names. Addresses in other spellings than the usual one are refused, not guessed at."""
    if text.startswith("["):
        return _ipv6(text)
    try:
        name = text.lower() if text.isascii() else text.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise BadName(f"{text[:80]!r} is not a name that can be written in ASCII") from None
    name = name.removesuffix(".")
    labels = name.split(".")
    if not name or len(name) > _LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadName(f"{text[:80]!r} is not a host name")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return IPv4Address(name)
        except AddressValueError:
            raise BadName(f"{text[:80]!r} is an address in an unusual spelling; write it as four numbers") from None
    return name


def _ipv6(text: str) -> IPv6Address:
    inner = text[1:-1] if text.endswith("]") else ""
    try:
        if "%" in inner:
            raise AddressValueError
        return IPv6Address(inner)
    except AddressValueError:
        raise BadName(f"{text[:80]!r} is not an address of IPv6 in brackets") from None


def port_of(text: str) -> int:
    """A port from 1 to 65535 in plain digits."""
    if not _PORT.fullmatch(text) or not 0 < int(text) <= _HIGHEST_PORT:
        raise BadName(f"{text[:20]!r} is not a port from 1 to {_HIGHEST_PORT}")
    return int(text)


def split_port(text: str) -> tuple[str, str]:
    """Host and port as written, the port empty where there is none. Nothing else may stand beside them."""
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        if bracket and (not rest or rest.startswith(":")):
            return f"{host}]", rest[1:]
        raise BadName(f"{text[:80]!r} is not an address in brackets with a port")
    host, colon, port = text.partition(":")
    if colon and not port:
        raise BadName(f"{text[:80]!r} has an empty port")
    return host, port


def written(host: Host) -> str:
    """As it stands in an authority."""
    return f"[{host}]" if isinstance(host, IPv6Address) else str(host)
