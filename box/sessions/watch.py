"""Changes of sessions for those who watch: each gets the latest state of what changed, however slowly it reads."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from portway.box.sessions.types import Session, SessionRef
from portway.rpc.errors import LimitExceeded, Quota, Reason

MOST_WAITING = 2_000


@dataclass(frozen=True, slots=True)
class SessionChanged:
    session: Session


@dataclass(frozen=True, slots=True)
class SessionDeleted:
    ref: SessionRef


SessionChange = SessionChanged | SessionDeleted


class Watcher:
    """One watch of a workspace, of the sessions with all of `labels`.

    At most one change for each session waits, and at most `MOST_WAITING` in all: who reads slower than that is told so
    and watches again.
    """

    def __init__(self, workspace_id: str, labels: Mapping[str, str]) -> None:
        self._workspace_id = workspace_id
        self._labels = dict(labels)
        self._waiting: OrderedDict[SessionRef, SessionChange] = OrderedDict()
        self._arrived = asyncio.Event()
        self._ended = False
        self._overrun = False

    def wants(self, session: Session) -> bool:
        return session.ref.workspace_id == self._workspace_id and self._labels.items() <= session.spec.labels.items()

    def put(self, ref: SessionRef, change: SessionChange) -> None:
        if self._overrun:
            return
        self._waiting.pop(ref, None)
        if len(self._waiting) >= MOST_WAITING:
            # Some would be missing whatever is dropped, so nothing of it is worth keeping.
            self._overrun = True
            self._waiting.clear()
        else:
            self._waiting[ref] = change
        self._arrived.set()

    def end(self) -> None:
        self._ended = True
        self._arrived.set()

    async def next(self) -> SessionChange | None:
        """The next change; `None` when there will be no more. Raises `LimitExceeded` for one that reads too slowly."""
        while not self._waiting:
            if self._overrun:
                raise LimitExceeded(
                    f"more than {MOST_WAITING} sessions changed while this watch read nothing; watch again",
                    reason=Reason.SLOW_READER,
                    retry_after=0.1,
                    quota=Quota("watch", f"{MOST_WAITING} changes wait"),
                )
            if self._ended:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popitem(last=False)[1]


class SessionFeed:
    """Tells watchers."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()
        self._closed = False

    @contextmanager
    def watch(self, workspace_id: str, labels: Mapping[str, str]) -> Iterator[Watcher]:
        watcher = Watcher(workspace_id, labels)
        if self._closed:
            watcher.end()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def close(self) -> None:
        self._closed = True
        for watcher in self._watchers:
            watcher.end()

    def changed(self, session: Session) -> None:
        self._tell(session, SessionChanged(session))

    def deleted(self, session: Session) -> None:
        self._tell(session, SessionDeleted(session.ref))

    def _tell(self, session: Session, change: SessionChange) -> None:
        for watcher in self._watchers:
            if watcher.wants(session):
                watcher.put(session.ref, change)
