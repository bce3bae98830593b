"""The box as a client sees it, dialled anew where its address or credential changes with its next start."""

import asyncio
from collections.abc import Callable

from portway.clients.box import Box
from portway.rpc.channel import ClientTls
from portway.rpc.errors import PortwayError
from portway.server.runtimes.address import Address

_LOOK_SECONDS = 0.5
# Calls under way on the old connection get so long to end.
_OLD_SECONDS = 60.0
_NOWHERE = "127.0.0.1:1"


class FollowedBox(Box):
    """A `Box` whose connection is replaced under it. `follow` must be running."""

    def __init__(self, address: Address, token: Callable[[], str], tls: ClientTls | None = None) -> None:
        super().__init__(_NOWHERE, token="")
        self._tls = tls
        self._address = address
        self._read_token = token
        self._dialled = ("", "")
        self._dial()

    @property
    def address(self) -> str:
        """Where the box is now; '' while that is not known."""
        return self._address.current()

    async def follow(self) -> None:
        """Look where the box is now, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                old = self._channel
                if self._dial():
                    group.create_task(old.close(_OLD_SECONDS))
                await asyncio.sleep(_LOOK_SECONDS)

    def _dial(self) -> bool:
        address = self._address.current()
        try:
            wanted = (address, self._read_token())
        except PortwayError:
            # Its credential is not written yet.
            return False
        if not address or wanted == self._dialled:
            return False
        self._dialled = wanted
        super().__init__(address, token=wanted[1], tls=self._tls)
        return True
