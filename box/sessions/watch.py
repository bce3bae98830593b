"""Changes of sessions for those who watch: each gets the latest state of what changed, however slowly it reads."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from portway.box.sessions.types import Session, SessionRef


@dataclass(frozen=True, slots=True)
class SessionChanged:
    session: Session


@dataclass(frozen=True, slots=True)
class SessionDeleted:
    ref: SessionRef


SessionChange = SessionChanged | SessionDeleted


class Watcher:
    """One watch of a workspace. At most one change for each session waits, so that it is bounded by their number."""

    def __init__(self, workspace_id: str) -> None:
        self.workspace_id = workspace_id
        self._waiting: OrderedDict[SessionRef, SessionChange] = OrderedDict()
        self._arrived = asyncio.Event()
        self._ended = False

    def put(self, ref: SessionRef, change: SessionChange) -> None:
        self._waiting.pop(ref, None)
        self._waiting[ref] = change
        self._arrived.set()

    def end(self) -> None:
        self._ended = True
        self._arrived.set()

    async def next(self) -> SessionChange | None:
        """The next change; `None` when there will be no more."""
        while not self._waiting:
            if self._ended:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popitem(last=False)[1]


class SessionFeed:
    """Tells watchers."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()

    @contextmanager
    def watch(self, workspace_id: str) -> Iterator[Watcher]:
        watcher = Watcher(workspace_id)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def close(self) -> None:
        for watcher in self._watchers:
            watcher.end()

    def changed(self, session: Session) -> None:
        self._tell(session.ref, SessionChanged(session))

    def deleted(self, session: Session) -> None:
        self._tell(session.ref, SessionDeleted(session.ref))

    def _tell(self, ref: SessionRef, change: SessionChange) -> None:
        for watcher in self._watchers:
            if watcher.workspace_id == ref.workspace_id:
                watcher.put(ref, change)
