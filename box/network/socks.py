"""SOCKS5, as much as a client needs to reach a host by name or address over TCP."""

import socket
from ipaddress import IPv4Address, IPv6Address

from portway.box.network.inbox import BadBody, Inbox
from portway.box.network.names import BadName, Host, host_of

VERSION = 5
_NO_AUTHENTICATION, _NOTHING_FITS = 0, 0xFF
_CONNECT = 1
_IPV4 = 1
GRANTED, FAILED, NOT_ALLOWED, UNREACHABLE, NO_SUCH_COMMAND, NO_SUCH_ADDRESS = 0, 1, 2, 4, 7, 8


class SocksError(ValueError):
    """What cannot be answered otherwise than with `code`; the text says why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


async def read_greeting(inbox: Inbox) -> bytes:
    """The answer to a greeting. Raises `BadBody`."""
    _version, count = await inbox.exactly(2)
    methods = await inbox.exactly(count)
    return bytes([VERSION, _NO_AUTHENTICATION if _NO_AUTHENTICATION in methods else _NOTHING_FITS])


async def read_wish(inbox: Inbox) -> tuple[Host, int]:
    """Where the client wants to go. Raises `SocksError`, `BadBody`."""
    version, command, _reserved, kind = await inbox.exactly(4)
    if version != VERSION:
        raise BadBody("not SOCKS5")
    host: Host
    match kind:
        case 1:
            host = IPv4Address(await inbox.exactly(4))
        case 4:
            host = IPv6Address(await inbox.exactly(16))
        case 3:
            (size,) = await inbox.exactly(1)
            name = await inbox.exactly(size)
            try:
                host = host_of(name.decode("ascii"))
            except (BadName, UnicodeDecodeError):
                raise SocksError(NO_SUCH_ADDRESS, f"{name!r} is not a host") from None
        case _:
            raise SocksError(NO_SUCH_ADDRESS, f"no addresses of kind {kind}")
    port = int.from_bytes(await inbox.exactly(2))
    if command != _CONNECT or port == 0:
        raise SocksError(NO_SUCH_COMMAND, "only CONNECT to a port is served")
    return host, port


def reply(code: int) -> bytes:
    return bytes([VERSION, code, 0, _IPV4]) + socket.inet_aton("0.0.0.0") + b"\0\0"
