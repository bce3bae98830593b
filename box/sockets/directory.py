"""All sockets of this box: who serves which, taken over by newer owners, gone with their sessions."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from portway.box.sessions.directory import SessionDirectory
from portway.box.sessions.live import LiveSession, unavailable_while_draining
from portway.box.sessions.types import SessionRef
from portway.box.sockets.listening import listening_inside
from portway.box.sockets.places import ConnectionPlaces, SocketLimits
from portway.box.sockets.relay import SocketRelay
from portway.box.sockets.types import FromOwner, ServedSocket, SocketOffer, SocketPlace, ToOwner
from portway.box.status.errors import ErrorLog
from portway.rpc.errors import (
    Conflict,
    LimitExceeded,
    NotFound,
    PortwayError,
    Quota,
    Reason,
    Stale,
    Unavailable,
)

Key = tuple[SessionRef, str]


class SocketDirectory:
    """The owner of a socket is a call: what it registers here is gone with it, and with no other call's end."""

    def __init__(self, sessions: SessionDirectory, limits: SocketLimits, errors: ErrorLog) -> None:
        self._sessions = sessions
        self._errors = errors
        self.limits = limits
        self._places = ConnectionPlaces(limits)
        self._served: dict[Key, SocketRelay] = {}

    def list(self, ref: SessionRef) -> list[ServedSocket]:
        """By name."""
        self._sessions.get(ref)
        found = [relay.describe() for (owner, _name), relay in self._served.items() if owner == ref]
        return sorted(found, key=lambda one: one.name)

    def forget_session(self, ref: SessionRef) -> None:
        """Its session is being deleted."""
        for (owner, _name), relay in list(self._served.items()):
            if owner == ref:
                relay.end(NotFound.of("session", ref.session_id))

    def lose_sandboxes(self) -> None:
        """What was inside is gone. Owners that still want to serve come again."""
        for relay in list(self._served.values()):
            relay.end(Unavailable("the sandbox was lost; serve the socket again", retry_after=0.5))

    async def serve(
        self,
        offer: SocketOffer,
        tell_place: Callable[[SocketPlace], Awaitable[None]],
        frames: AsyncIterator[FromOwner],
        write: Callable[[ToOwner], Awaitable[None]],
        draining: asyncio.Event,
    ) -> None:
        """Serves until the owner ends it. `tell_place` is called once commands can connect.

        Raises `NotFound`, `Conflict`, `LimitExceeded`; `Stale` where a newer owner took it over; `Unavailable`.
        """
        self._sessions.require_open()
        session = self._sessions.get(offer.ref)
        with self._noted(offer.ref):
            await self._serve(session, offer, tell_place, frames, write, draining)

    @contextmanager
    def _noted(self, ref: SessionRef) -> Iterator[None]:
        """A refusal is noted for people; an owner that was replaced, or whose session has gone, is none."""
        try:
            yield
        except (Conflict, LimitExceeded) as error:
            self._errors.note("SOCKET_REFUSED", error.message, ref.session_id, ref.workspace_id)
            raise

    async def _serve(
        self,
        session: LiveSession,
        offer: SocketOffer,
        tell_place: Callable[[SocketPlace], Awaitable[None]],
        frames: AsyncIterator[FromOwner],
        write: Callable[[ToOwner], Awaitable[None]],
        draining: asyncio.Event,
    ) -> None:
        relay = SocketRelay(offer, partial(self._places.take, offer.ref.workspace_id, object()))
        async with (
            self._registered(relay),
            session.holding(offer.name) as opened,
            listening_inside(opened.sandbox, offer.name, offer.port) as listening,
        ):
            relay.place = listening.place
            await tell_place(relay.place)
            await relay.run(listening.ends, frames, write, self._drained(draining))

    async def _drained(self, draining: asyncio.Event) -> PortwayError:
        """Until the box stops and nothing runs any more that could need a socket."""
        await draining.wait()
        await self._sessions.until_idle()
        return unavailable_while_draining()

    @asynccontextmanager
    async def _registered(self, relay: SocketRelay) -> AsyncIterator[None]:
        before = self._replace(relay)
        try:
            if before is not None:
                await before.gone.wait()
            if relay.ended is not None:
                raise relay.ended
            yield
        finally:
            key = (relay.offer.ref, relay.offer.name)
            # Nothing is taken from a newer owner.
            if self._served.get(key) is relay:
                del self._served[key]
            relay.gone.set()

    def _replace(self, relay: SocketRelay) -> SocketRelay | None:
        """Registers an owner. The one before it, if any, is told to go."""
        offer = relay.offer
        key = (offer.ref, offer.name)
        before = self._served.get(key)
        if before is None:
            self._require_room(offer.ref)
        elif offer.generation <= before.offer.generation:
            raise Conflict(
                f"the socket {offer.name!r} of session {offer.ref.session_id!r} is served by an owner of generation "
                f"{before.offer.generation}; take another name, or come with a greater generation"
            )
        else:
            text = f"an owner of generation {offer.generation} has taken over the socket {offer.name!r}"
            before.end(Stale(text, reason=Reason.OLD_EPOCH))
        self._served[key] = relay
        return before

    def _require_room(self, ref: SessionRef) -> None:
        own = sum(1 for owner, _name in self._served if owner == ref)
        for count, most, whose in (
            (own, self.limits.sockets_per_session, f"session {ref.session_id!r}"),
            (len(self._served), self.limits.sockets, "this box"),
        ):
            if count >= most:
                raise LimitExceeded(
                    f"{whose} already has {count} sockets; end one first",
                    quota=Quota(whose, f"at most {most} sockets"),
                )
