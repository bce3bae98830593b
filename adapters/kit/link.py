"""The connection to the host: made again for ever, and after each break everything goes on where it was."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grpc
import structlog

from portway.adapters.kit.backoff import Backoff
from portway.adapters.kit.deliver import Deliverer
from portway.adapters.kit.dial import Dial
from portway.adapters.kit.frames import Outgoing
from portway.adapters.kit.ledger import SentLedger
from portway.adapters.kit.live_wire import update_of
from portway.adapters.kit.platform import Platform
from portway.adapters.kit.types import Accepted, Inbound, LinkKind, LinkState, SurfaceLimits
from portway.adapters.kit.typing_signs import TypingSigns
from portway.adapters.kit.wire import accepted_of, capabilities_of, outbound_of, refusal_of, submit_of, target_of
from portway.rpc.errors import PortwayError, Reason, Unavailable, WrongState
from portway.rpc.status import errors_by_meaning
from portway.v1 import adapter_pb2, adapter_pb2_grpc

PROTOCOL_VERSION = 1
MAX_UNACKNOWLEDGED = 16
_LEAVE_WITHIN = 5.0
_LONGEST_WAIT = 30.0

log = structlog.get_logger("portway.adapters")

_Call = grpc.aio.StreamStreamCall[adapter_pb2.ConnectRequest, adapter_pb2.ConnectResponse]


class LinkEnded(PortwayError):
    """There is no point in connecting again: this adapter was replaced, or it is too old or too new for the host."""

    default_reason = Reason.WRONG_STATE


@dataclass(frozen=True, slots=True)
class Identity:
    """How an adapter introduces itself. `adapter_id` is stable: its keys and what is kept for it belong to it."""

    adapter_id: str
    platform: str
    version: str
    bot_ids: Sequence[str] = ()
    live_updates: bool = False


class Link:
    """One adapter's connection. `run` keeps it; the other methods may be called at any time."""

    def __init__(self, dial: Dial, identity: Identity, limits: SurfaceLimits, backoff: Backoff | None = None) -> None:
        self._dial = dial
        self._identity = identity
        self._limits = limits
        self._backoff = backoff or Backoff()
        self._outgoing = Outgoing()
        self._ledger = SentLedger(None if limits.repeats_safely else self)
        self._deliverer = Deliverer(limits, self._ledger, self._outgoing.result)
        self._signs: TypingSigns | None = None
        self._restored = False
        self._leaving = False
        self._closing = False
        self._retry_after: float | None = None
        self._told = LinkState(LinkKind.CONNECTING)
        self.cursors: Mapping[str, str] = {}
        self.ever_connected = asyncio.Event()
        """The host has welcomed this adapter at least once."""

    async def run(self, platform: Platform) -> None:
        """Keeps the connection until cancelled. Raises `LinkEnded` where connecting again is useless."""
        self._signs = TypingSigns(platform.typing_changed)
        try:
            async with asyncio.TaskGroup() as group:
                await self._keep_connected(platform, group)
        except BaseExceptionGroup as several:
            ended = next((one for one in several.exceptions if isinstance(one, LinkEnded)), None)
            if ended is None:
                raise
            self._tell(platform, LinkState(LinkKind.CLOSED, ended.message, str(ended.reason)))
            raise ended from None

    async def submit(self, inbound: Inbound) -> Accepted:
        """Returns when the host has the event on disk, however long that takes; cancelling does not take it back.

        Raises what the host answers: `Unavailable` where the same may be taken later, `WrongState` where not;
        `LimitExceeded` when too many wait.
        """
        if self._closing:
            raise Unavailable("this adapter is stopping", reason=Reason.SHUTTING_DOWN, retry_after=2.0)
        submit = submit_of(inbound, self._identity.adapter_id, self._limits)
        answer = self._outgoing.events.add(submit)
        self._outgoing.wake.set()
        return await asyncio.shield(answer)

    @property
    def state(self) -> LinkState:
        return self._told

    def watch(self, run_id: str, after_sequence: int) -> None:
        """Live text of a run after a sequence, over breaks of the connection, until it ends or `unwatch`. Runs that
        answer this adapter's events come unasked, where it wants live text at all."""
        self._outgoing.runs.watch(run_id, after_sequence)

    def unwatch(self, run_id: str) -> None:
        self._outgoing.unwatch(run_id)

    async def keep(self, name: str, value: str) -> None:
        """Keeps a small value in the host; returns when it is on disk."""
        await asyncio.shield(self._outgoing.keep(name, value))

    def keep_soon(self, name: str, value: str) -> None:
        """Keeps a small value in the host; it goes out before whatever is sent later."""
        self._outgoing.keep(name, value)

    async def drain(self, grace: float) -> None:
        """Takes no more events and waits until what is under way has gone out, for `grace` seconds at most."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._deliverer.until_idle()
                while self._told.kind is LinkKind.CONNECTED and not self._outgoing.empty:
                    self._outgoing.wake.set()
                    await asyncio.sleep(0.02)

    async def _keep_connected(self, platform: Platform, group: asyncio.TaskGroup) -> None:
        while True:
            self._leaving = False
            self._retry_after = None
            try:
                await self._connect(platform, group)
                self._tell(platform, LinkState(LinkKind.CONNECTING, "the host ended the connection"))
            except PortwayError as error:
                if isinstance(error, LinkEnded):
                    raise
                if isinstance(error, WrongState) and error.retry_after is None:
                    raise LinkEnded(f"the host does not work with this adapter: {error.message}") from error
                self._retry_after = error.retry_after
                self._tell(platform, LinkState(LinkKind.CONNECTING, error.message, str(error.reason)))
            pause = self._backoff.pause() if self._retry_after is None else min(self._retry_after, _LONGEST_WAIT)
            await asyncio.sleep(pause)

    async def _connect(self, platform: Platform, group: asyncio.TaskGroup) -> None:
        """One connection from its beginning to its end."""
        channel = await self._dial.renew()
        call = adapter_pb2_grpc.AdapterServiceStub(channel).Connect()
        writer: asyncio.Task[None] | None = None
        try:
            with errors_by_meaning():
                await call.write(self._outgoing.begin(self._hello()))
                first = await call.read()
                if not isinstance(first, adapter_pb2.ConnectResponse) or first.WhichOneof("kind") != "welcome":
                    raise Unavailable("the host did not answer the hello with a welcome")
                self._welcome(platform, first.welcome)
                writer = group.create_task(self._write(call), name="adapter writer")
                await self._read(call, first.welcome.keepalive.ToMilliseconds() / 1000 or None, platform, group)
        finally:
            if writer is not None:
                writer.cancel()
            if self._signs is not None:
                self._signs.clear()
            call.cancel()

    def _welcome(self, platform: Platform, welcome: adapter_pb2.AdapterWelcome) -> None:
        self._backoff.reset()
        if not self._restored:
            # Only once: afterwards what is in memory here is newer.
            self.cursors = dict(welcome.cursors)
            self._ledger.restore(self.cursors)
            self._restored = True
        self._tell(platform, LinkState(LinkKind.CONNECTED))
        self.ever_connected.set()

    async def _write(self, call: _Call) -> None:
        # A connection that broke is the reader's to report, and what was not written is written on the next one.
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            while not self._leaving:
                self._outgoing.wake.clear()
                await self._write_urgent(call)
                for frame in self._outgoing.events.frames():
                    await call.write(frame)
                    await self._write_urgent(call)
                await self._outgoing.wake.wait()
            # The host leaves: what is under way is finished, what has not begun waits for the next connection.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._deliverer.until_idle(), _LEAVE_WITHIN)
            await self._write_urgent(call)
            await call.done_writing()

    async def _write_urgent(self, call: _Call) -> None:
        """Results and watches: they are small, and the host waits for them."""
        while (frame := self._outgoing.take()) is not None:
            await call.write(frame)

    async def _read(self, call: _Call, silence: float | None, platform: Platform, group: asyncio.TaskGroup) -> None:
        while True:
            try:
                async with asyncio.timeout(silence):
                    frame = await call.read()
            except TimeoutError:
                raise Unavailable(f"nothing was heard from the host for {silence:g} seconds") from None
            if not isinstance(frame, adapter_pb2.ConnectResponse):
                return
            self._handle(frame, platform, group)

    def _handle(self, frame: adapter_pb2.ConnectResponse, platform: Platform, group: asyncio.TaskGroup) -> None:
        match frame.WhichOneof("kind"):
            case "ack":
                self._acknowledge(frame.ack)
            case "delivery":
                self._deliverer.accept(outbound_of(frame.delivery), platform, group)
            case "update":
                platform.run_changed(self._outgoing.runs.heard(update_of(frame.update)))
            case "typing":
                if self._signs is not None and self._limits.typing:
                    self._signs.heard(target_of(frame.typing.target), frame.typing.on)
            case "cursor_ack":
                ack = frame.cursor_ack
                error = Unavailable(ack.error.message, reason=ack.error.code) if ack.HasField("error") else None
                self._outgoing.kept(ack.ref, error)
            case "drain":
                self._retry_after = frame.drain.retry_after.ToMilliseconds() / 1000 or None
                self._leaving = True
                self._outgoing.wake.set()
            case "replaced":
                raise LinkEnded(
                    f"another process took over as adapter {self._identity.adapter_id!r}; this one ends. "
                    "If that was not meant, give each its own adapter id."
                )
            case other:
                # A later version may say more than this one understands.
                log.debug("a frame that this version does not use", kind=other)

    def _acknowledge(self, ack: adapter_pb2.AdapterEventAck) -> None:
        if ack.HasField("error"):
            self._outgoing.events.refused(ack.ref, refusal_of(ack))
        else:
            accepted = accepted_of(ack.accepted)
            if accepted.run_id and self._identity.live_updates:
                # What was accepted over an earlier connection is told of only if somebody asks.
                self._outgoing.runs.expect(accepted.run_id, unasked=not accepted.duplicate)
            self._outgoing.events.accepted(ack.ref, accepted)

    def _hello(self) -> adapter_pb2.AdapterHello:
        identity, limits = self._identity, self._limits
        surface = adapter_pb2.AdapterSurface(
            surface=limits.surface, bot_ids=identity.bot_ids, capabilities=capabilities_of(limits)
        )
        return adapter_pb2.AdapterHello(
            adapter_id=identity.adapter_id,
            platform=identity.platform,
            version=identity.version,
            protocol_version=PROTOCOL_VERSION,
            surfaces=[surface],
            max_unacknowledged=MAX_UNACKNOWLEDGED,
            live_updates=identity.live_updates,
        )

    def _tell(self, platform: Platform, state: LinkState) -> None:
        if state == self._told:
            return
        self._told = state
        if state.kind is LinkKind.CONNECTED:
            log.info("connected to the host")
        else:
            log.warning("no connection to the host", detail=state.detail, reason=state.code)
        platform.link_changed(state)
