"""From names to addresses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from portway.server.outbound.addresses import Address, literal

Resolver = Callable[[str, int], Awaitable[Sequence[Address]]]


async def system_resolver(host: str, port: int) -> Sequence[Address]:
    """What this machine resolves the name to, in its order of preference. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = (literal(str(where[0])) for *_, where in found)
    return list(dict.fromkeys(one for one in addresses if one is not None))
