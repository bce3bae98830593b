"""The way out: a name is looked up here, its addresses are judged, and the connection goes to one that was judged."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from portway.box.network.addresses import AddressRules
from portway.box.network.names import Address, Host, host_of

_MOST_ADDRESSES = 16
_LOOKUPS_AT_ONCE = 8


class Refused(Exception):
    """The rules are against it; the text says which."""


class Unreachable(Exception):
    """The rules are for it, and the other side is not there; the text says why."""


class Dialer:
    """Connects for one session. `patience` in seconds, for looking up and connecting together."""

    def __init__(
        self, rules: AddressRules, hosts: Mapping[str, Sequence[str]], denied_ports: Sequence[int], patience: float
    ) -> None:
        self._rules = rules
        self._hosts = {host_of(name): tuple(addresses) for name, addresses in hosts.items()}
        self._denied_ports = frozenset(denied_ports)
        self._patience = patience
        self._lookups = asyncio.Semaphore(_LOOKUPS_AT_ONCE)

    async def dial(self, host: Host, port: int) -> socket.socket:
        """A connection. Raises `Refused`, `Unreachable`."""
        if port in self._denied_ports:
            raise Refused(f"port {port} is closed by the operator of the box")
        try:
            async with asyncio.timeout(self._patience):
                return await self._first_of(host, await self._permitted(host), port)
        except TimeoutError:
            raise Unreachable(f"{host}:{port} did not answer within {self._patience:g} s") from None

    async def _permitted(self, host: Host) -> list[Address]:
        addresses = await self._look_up(host) if isinstance(host, str) else [host]
        objections = {address: self._rules.objection(address) for address in addresses[:_MOST_ADDRESSES]}
        permitted = [address for address, objection in objections.items() if not objection]
        if not permitted:
            why = next(iter(objections.values()))
            # An address that is not public is the machine's business: only what was asked for is told.
            raise Refused(f"{host} {why}" if not isinstance(host, str) else f"the address of {host} {why}")
        return permitted

    async def _look_up(self, name: str) -> list[Address]:
        if name in self._hosts:
            return [ip_address(text) for text in self._hosts[name]]
        loop = asyncio.get_running_loop()
        try:
            async with self._lookups:
                found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError):
            raise Unreachable(f"the name {name} could not be looked up") from None
        addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
        if not addresses:
            raise Unreachable(f"the name {name} has no address")
        return [ip_address(text) for text in dict.fromkeys(addresses)]

    async def _first_of(self, host: Host, addresses: Sequence[Address], port: int) -> socket.socket:
        reason = "no answer"
        for address in addresses:
            try:
                return await _connect(address, port)
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else "no connection"
        raise Unreachable(f"{host}:{port}: {reason}")


async def _connect(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        await asyncio.get_running_loop().sock_connect(made, (str(address), port))
        with contextlib.suppress(OSError):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        made.close()
        raise
    return made
