"""How many connections there may be: of a socket, of a workspace, of the box. Who finds no place waits for one."""

import asyncio
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Counts. `connections` times the credit of one is what the box holds at most for programs that do not read."""

    sockets_per_session: int = 8
    sockets: int = 512
    connections_per_socket: int = 64
    connections_per_workspace: int = 512
    connections: int = 1024


class Place:
    """Taken until it is released, once."""

    def __init__(self, owner: "ConnectionPlaces", keys: tuple[object, ...]) -> None:
        self._owner = owner
        self._keys = keys

    def release(self) -> None:
        keys, self._keys = self._keys, ()
        self._owner.give_back(keys)


class ConnectionPlaces:
    """Counts what is taken. One place released lets everybody who waits look again."""

    def __init__(self, limits: SocketLimits) -> None:
        self._limits = limits
        self._taken: Counter[object] = Counter()
        self._released = asyncio.Event()

    async def take(self, workspace_id: str, socket: object) -> Place:
        limits = self._limits
        bounds = {
            (socket,): limits.connections_per_socket,
            workspace_id: limits.connections_per_workspace,
            None: limits.connections,
        }
        while any(self._taken[key] >= most for key, most in bounds.items()):
            self._released.clear()
            await self._released.wait()
        self._taken.update(bounds.keys())
        return Place(self, tuple(bounds))

    def give_back(self, keys: tuple[object, ...]) -> None:
        for key in keys:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]
        self._released.set()
