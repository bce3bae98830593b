"""One connection of an adapter, and which connection of each adapter is the current one."""

import asyncio
import json
from collections.abc import Iterator

from portway.rpc.errors import NotPermitted, PortwayError, Reason, WrongState
from portway.rpc.identity import Caller, Role
from portway.server.adapters.frames import Hello, Outbound, ToDeliver
from portway.server.deliveries.types import Channel, Delivery

ANSWERS = 256
UPDATES = 64

Key = tuple[str, str]


class Connection:
    """A stream of an adapter. It takes deliveries for the surfaces that the adapter serves."""

    def __init__(self, caller: Caller, hello: Hello, generation: int) -> None:
        self.caller = caller
        self.hello = hello
        self.generation = generation
        self.outbound = Outbound(answers=ANSWERS, updates=UPDATES)
        self.open = True
        self.replaced = asyncio.Event()
        self.replaced_by = 0
        self.all_told = asyncio.Event()
        self.all_told.set()
        self._held: set[str] = set()
        surfaces = hello.introduction.surfaces
        self._bots = {one.surface: frozenset(one.bot_ids) for one in surfaces}
        self._typing = {one.surface for one in surfaces if json.loads(one.capabilities_json).get("typing")}

    @property
    def key(self) -> Key:
        return self.caller.workspace_id, self.hello.introduction.adapter_id

    @property
    def credit(self) -> int:
        return self.hello.credit

    def serves(self, channel: Channel) -> bool:
        bots = self._bots.get(channel.surface)
        if bots is None or channel.workspace_id != self.caller.workspace_id:
            return False
        return not bots or channel.bot_id in bots

    def shows_typing(self, channel: Channel) -> bool:
        return self.open and channel.surface in self._typing and self.serves(channel)

    def show_typing(self, target: bytes, on: bool) -> None:
        self.outbound.put_sign(target, on)

    def deliver(self, delivery: Delivery) -> None:
        self._held.add(delivery.delivery_id)
        self.all_told.clear()
        self.outbound.put(ToDeliver(delivery))

    @property
    def held_count(self) -> int:
        """Deliveries that it was given and has told nothing of."""
        return len(self._held)

    def holds(self, delivery_id: str) -> bool:
        return delivery_id in self._held

    def told(self, delivery_id: str) -> None:
        """There is a result."""
        self._held.discard(delivery_id)
        if not self._held:
            self.all_told.set()

    def replace(self, generation: int) -> None:
        """A newer connection took over: no more deliveries, and the stream ends."""
        self.open = False
        self.replaced_by = generation
        self.replaced.set()


class Connections:
    """The current connection of each adapter. The end of an older one never touches the newer one."""

    def __init__(self) -> None:
        self._current: dict[Key, Connection] = {}
        self.entered_count = 0

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._current.values()))

    def current(self, key: Key) -> Connection | None:
        return self._current.get(key)

    def refusal(self, caller: Caller, hello: Hello) -> PortwayError | None:
        """Why the caller may not be this adapter."""
        adapter_id = hello.introduction.adapter_id
        if caller.role is Role.ADAPTER and caller.subject not in ("", adapter_id):
            return NotPermitted(
                f"This token belongs to the adapter {caller.subject!r}; it cannot connect as {adapter_id!r}. Make a "
                "token for it with `portway tokens create --role adapter`.",
                reason=Reason.NOT_GRANTED,
            )
        current = self._current.get((caller.workspace_id, adapter_id))
        if current is not None and current.caller.token_id != caller.token_id:
            return WrongState(
                f"The adapter {adapter_id!r} is connected with another token. Stop that one, or give this one another "
                "adapter id.",
                retry_after=5.0,
            )
        return None

    def enter(self, connection: Connection) -> Connection | None:
        """Make it the current one; answers the one that it replaced. If it is the older one itself, it is replaced."""
        before = self._current.get(connection.key)
        if before is not None and before.generation > connection.generation:
            connection.replace(before.generation)
            return None
        self._current[connection.key] = connection
        self.entered_count += 1
        if before is not None:
            before.replace(connection.generation)
        return before

    def leave(self, connection: Connection) -> bool:
        """It has ended; true when it was the current one."""
        connection.open = False
        if self._current.get(connection.key) is not connection:
            return False
        del self._current[connection.key]
        return True
