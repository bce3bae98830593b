"""The standard health service: one state per service, and one under the empty name for the server as a whole."""

import asyncio

from grpc_health.v1 import health_pb2 as pb

from portway.rpc.binding import OPEN, Service
from portway.rpc.call import Call
from portway.rpc.errors import NotFound

_State = pb.HealthCheckResponse
DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Health"]


class Health:
    """Servicer and switchboard. Answers without a token, and also while the server drains."""

    def __init__(self, names: list[str]) -> None:
        self._serving = {name: True for name in ("", *names)}
        self._draining = False
        # Set and replaced at each change; watchers wait on the one that they saw.
        self._changed = asyncio.Event()

    def service(self) -> Service:
        names = frozenset({"Check", "Watch"})
        return Service(DESCRIPTOR, self, quiet_methods=names, while_draining=True, access=OPEN)

    def set_serving(self, name: str, serving: bool) -> None:
        """Says whether the service `name` can do its work; the server as a whole needs all of them."""
        self._serving[name] = serving
        self._serving[""] = all(state for key, state in self._serving.items() if key)
        self._tell()

    def drain(self) -> None:
        self._draining = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _state(self, name: str) -> pb.HealthCheckResponse.ServingStatus:
        if name not in self._serving:
            return _State.SERVICE_UNKNOWN
        return _State.SERVING if self._serving[name] and not self._draining else _State.NOT_SERVING

    async def Check(self, request: pb.HealthCheckRequest, call: Call[None, None]) -> pb.HealthCheckResponse:
        state = self._state(request.service)
        if state == _State.SERVICE_UNKNOWN:
            raise NotFound.of("service", request.service)
        return pb.HealthCheckResponse(status=state)

    async def Watch(self, request: pb.HealthCheckRequest, call: Call[None, pb.HealthCheckResponse]) -> None:
        last: int | None = None
        while True:
            changed, state = self._changed, self._state(request.service)
            if state != last:
                await call.write(pb.HealthCheckResponse(status=state))
                last = state
            await changed.wait()
