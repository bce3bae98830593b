"""The connection to the plugin runtime: dialled for as long as the host lives, and the runners that are there now."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from portway.rpc.channel import ClientTls, PortwayChannel, open_channel
from portway.rpc.errors import InvalidInput, NotFound, PortwayError, Reason, Resource, Unavailable, WrongState
from portway.rpc.status import errors_by_meaning
from portway.server.runtimes.address import Address
from portway.server.runtimes.runner import PROTOCOL_VERSION, Runner
from portway.server.runtimes.stream import RunStream
from portway.server.runtimes.wire import runner_of
from portway.v1 import runner_pb2, runtime_pb2, runtime_pb2_grpc

EPOCH_HEADER = "portway-host-epoch"
_RUN_AGENT = "/portway.v1.RuntimeService/RunAgent"
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_CALL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class LinkState:
    """Whether the other server answers, where it is, and why not."""

    connected: bool
    address: str
    reason: str


class RuntimeLink:
    """Watches the runtime's runners and opens runs on it. `token` is read anew for each connection."""

    def __init__(self, address: Address, token: Callable[[], str], epoch: int, tls: ClientTls | None = None) -> None:
        self._address = address
        self._tls = tls
        self._token = token
        self._metadata = ((EPOCH_HEADER, str(epoch)),)
        self._runners: dict[str, Runner] = {}
        # Runners that are there and may not be used, with the reason.
        self._withheld: dict[str, str] = {}
        self._channel: PortwayChannel | None = None
        self._changed = asyncio.Event()
        self.state = LinkState(False, "", "it was not reached yet")
        self.tools_version = 0
        """Grows when the tools of plugins are, or may be, others than before."""
        self.components_version = 0
        """The same for their other components."""
        self.reached = asyncio.Event()
        """The runtime has told its runners at least once."""

    @property
    def runners(self) -> Mapping[str, Runner]:
        """By id; those of the last contact while the runtime is away."""
        return self._runners

    @property
    def channel(self) -> PortwayChannel:
        """For calls other than runs. Raises Unavailable."""
        if self._channel is None or not self.state.connected:
            raise self._unavailable()
        return self._channel

    async def find(self, runner_id: str, patience: float = 0.0) -> Runner:
        """The runner, waiting up to `patience` seconds for the runtime to come.

        Raises NotFound for a runner that the runtime does not have, WrongState for one that its operator switched off,
        Unavailable without a runtime.
        """
        until = time.monotonic() + patience
        while not self.state.connected:
            changed = self._changed
            left = until - time.monotonic()
            if left <= 0:
                raise self._unavailable()
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), left)
        runner = self._runners.get(runner_id)
        if runner is None and runner_id in self._withheld:
            reason = self._withheld[runner_id]
            raise WrongState(f"The runner {runner_id!r} cannot be used: {reason}.", reason=Reason.RUNNER_UNAVAILABLE)
        if runner is None:
            known = ", ".join(sorted(self._runners)) or "none"
            raise NotFound(
                f"The runtime has no runner {runner_id!r}. It has: {known}. See what is broken: `portway plugin list`.",
                resource=Resource("runner", runner_id),
            )
        return runner

    async def changed(self) -> None:
        """Wait until `state` or a version is another."""
        await self._changed.wait()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call that acts tells of this host."""
        return self._metadata

    def open_run(self, seconds: float) -> RunStream:
        """A new RunAgent stream that the library ends after `seconds`. Raises Unavailable."""
        return RunStream(self.channel.stream_stream(_RUN_AGENT)(timeout=seconds, metadata=self._metadata))

    async def recycle(self, plugin_id: str, generation: str = "") -> None:
        """Replace the plugin's process, if it is still that one: it did not end a run that was cancelled."""
        stub = runtime_pb2_grpc.RuntimeServiceStub(self.channel)
        number = int(generation) if generation.isdecimal() else 0
        request = runtime_pb2.RecyclePluginRequest(plugin_id=plugin_id, generation=number)
        with errors_by_meaning():
            await stub.RecyclePlugin(request, timeout=_CALL_SECONDS)

    async def serve(self) -> None:
        """Keep the connection until cancelled."""
        log = structlog.get_logger("portway.host.runtime")
        pause = _FIRST_PAUSE
        while True:
            address = self._address.current()
            if not address:
                self._lost("", f"there is no address in {self._address} yet")
            else:
                try:
                    await self._follow(address)
                    self._lost(address, "it ended the connection")
                except (PortwayError, OSError) as error:
                    if self.state.connected:
                        log.warning("the runtime is away", address=address, reason=str(error))
                        pause = _FIRST_PAUSE
                    self._lost(address, str(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _follow(self, address: str) -> None:
        async with open_channel(address, token=self._token(), tls=self._tls) as channel:
            stub = runtime_pb2_grpc.RuntimeServiceStub(channel)
            with errors_by_meaning():
                call = stub.WatchRunners(runtime_pb2.WatchRunnersRequest(), metadata=self._metadata)
                async for event in call:
                    self._take(event)
                    if not self.state.connected:
                        self._channel = channel
                        self._set(LinkState(True, address, ""))
                        self.reached.set()

    def _take(self, event: runtime_pb2.WatchRunnersResponse) -> None:
        match event.WhichOneof("kind"):
            case "snapshot":
                self._runners = {}
                self._withheld = {one.runner_id: one.reason for one in event.snapshot.withheld}
                for manifest in event.snapshot.runners:
                    self._keep(manifest)
            case "added":
                self._withheld.pop(event.added.id, None)
                self._keep(event.added)
            case "changed":
                self._runners.pop(event.changed.id, None)
                self._keep(event.changed)
            case "removed_runner_id":
                self._runners.pop(event.removed_runner_id, None)
                self._withheld.pop(event.removed_runner_id, None)
            case "withheld":
                self._withheld[event.withheld.runner_id] = event.withheld.reason
            case "tools_changed":
                self.tools_version += 1
                self._announce()
            case "components_changed":
                self.components_version += 1
                self._announce()
            case "failed" | None:
                pass  # The runtime tells its problems to who lists its plugins.

    def _keep(self, manifest: runner_pb2.RunnerManifest) -> None:
        log = structlog.get_logger("portway.host.runtime")
        if manifest.protocol_version != PROTOCOL_VERSION:
            log.warning(
                "a runner speaks another protocol version and is left out",
                runner_id=manifest.id,
                version=manifest.protocol_version,
            )
            return
        try:
            self._runners[manifest.id] = runner_of(manifest)
        except InvalidInput as error:
            log.warning("a runner is left out", runner_id=manifest.id, reason=str(error))

    def _lost(self, address: str, reason: str) -> None:
        self._channel = None
        self._set(LinkState(False, address, reason))

    def _set(self, state: LinkState) -> None:
        self.state = state
        self._announce()

    def _announce(self) -> None:
        waiting, self._changed = self._changed, asyncio.Event()
        waiting.set()

    def _unavailable(self) -> Unavailable:
        where = f" at {self.state.address}" if self.state.address else ""
        return Unavailable(
            f"The plugin runtime{where} does not answer: {self.state.reason}. Start it, or see `portway status`.",
            reason=Reason.RUNNER_UNAVAILABLE,
            retry_after=_LONGEST_PAUSE,
        )
