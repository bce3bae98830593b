"""Sessions of MCP clients with one run's bridge. They live in the run's scope, and are gone with it."""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

RequestId = str | int


class AlreadyUnderWay(Exception):
    """A request with this id has not been answered yet."""


@dataclass(slots=True, eq=False)
class Session:
    """One client that has agreed on a version. `under_way`: by the id of a request, what tells it to give up."""

    session_id: str
    version: str
    under_way: dict[RequestId, asyncio.Event] = field(default_factory=dict)
    closed: bool = False

    @contextmanager
    def asking(self, request_id: RequestId) -> Iterator[asyncio.Event]:
        """While a request is answered. Raises AlreadyUnderWay."""
        if request_id in self.under_way:
            raise AlreadyUnderWay
        given_up = self.under_way[request_id] = asyncio.Event()
        if self.closed:
            given_up.set()
        try:
            yield given_up
        finally:
            del self.under_way[request_id]

    def give_up(self, request_id: RequestId) -> None:
        """The client does not want its answer any more. One that has ended, or never was, is no error."""
        event = self.under_way.get(request_id)
        if event is not None:
            event.set()


class BridgeSessions:
    """Of one run, the longest unused first."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, version: str, most: int) -> Session | None:
        """A new one, for which the longest unused one makes room; None where all of them are busy.

        Whoever comes back to one that made room is told that it is gone, and begins anew.
        """
        if len(self._sessions) >= most:
            idle = next((one for one in self._sessions.values() if not one.under_way), None)
            if idle is None:
                return None
            self.close(idle)
        session = Session(secrets.token_hex(16), version)
        self._sessions[session.session_id] = session
        return session

    def find(self, session_id: str) -> Session | None:
        session = self._sessions.get(session_id)
        if session is not None:
            self._sessions.move_to_end(session_id)
        return session

    def close(self, session: Session) -> None:
        """It is forgotten, and what it waits for is given up."""
        session.closed = True
        self._sessions.pop(session.session_id, None)
        for event in session.under_way.values():
            event.set()
