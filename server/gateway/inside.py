"""What a run's programs may ask the host for, as sockets in its session: without network or any key but the run's."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from portway.clients.sockets.serve import ServedSocket
from portway.rpc.errors import Conflict
from portway.server.gateway.door import ONLY_RUN
from portway.server.http.listener import HttpLimits
from portway.server.http.relayed import RelayedHttp
from portway.server.runner_calls.scope import RunScope
from portway.server.tools.box_client import BoxClient
from portway.server.tools.types import BoxSession

# As many as the box relays for one socket; more are answered with 503.
_LIMITS = HttpLimits(connections=64)
_GENERATIONS_OF_AN_EPOCH = 1 << 32


class RunSockets:
    """Offers them: `services` by their kind. Generations grow with the host's epoch: one that was started again has
    its names back at once."""

    def __init__(self, box: BoxClient, services: Mapping[str, RelayedHttp], epoch: int) -> None:
        self._box = box
        self._services = services
        self._generation = epoch * _GENERATIONS_OF_AN_EPOCH
        self._served: set[tuple[str, str, str]] = set()

    @asynccontextmanager
    async def offered(
        self, run: RunScope, session: BoxSession, kind: str, name: str, port: int
    ) -> AsyncIterator[ServedSocket]:
        """While the block runs. Raises Conflict where a live run offers the name there, and what the box says."""
        key = (session.workspace_id, session.session_id, name)
        if key in self._served:
            raise Conflict(f"a live run already offers the socket {name!r} in this session; take another name")
        self._served.add(key)
        self._generation += 1
        try:
            with self._services[kind].protocols({ONLY_RUN: run.run_id}, _LIMITS) as protocols:
                async with self._box.serve_socket(session, name, protocols, port, self._generation) as served:
                    yield served
        finally:
            self._served.discard(key)
