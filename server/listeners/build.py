"""What the host has for event listeners."""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from portway.rpc.cursor import CursorCodec
from portway.server.components.desk import ComponentDesk
from portway.server.events.store import EventLog
from portway.server.listeners.deliver import Deliverer
from portway.server.listeners.feed import ListenerFeed
from portway.server.listeners.manage import ListenerManager
from portway.server.listeners.offered import OfferedListeners
from portway.server.listeners.servicer import ListenerServicer
from portway.server.listeners.store import StoredListeners
from portway.server.runtimes.link import RuntimeLink
from portway.server.storage_engine.database import Database


@dataclass(frozen=True, slots=True)
class ListenerParts:
    """Live as long as the host."""

    stored: StoredListeners
    offered: OfferedListeners
    feed: ListenerFeed
    manager: ListenerManager

    def jobs(self) -> list[Coroutine[Any, Any, None]]:
        return [self.offered.serve(), self.feed.run()]

    def servicer(self, cursors: CursorCodec) -> ListenerServicer:
        return ListenerServicer(self.manager, self.stored, self.offered, cursors)


def build_listeners(database: Database, events: EventLog, link: RuntimeLink, desk: ComponentDesk) -> ListenerParts:
    stored, offered = StoredListeners(database.reader), OfferedListeners(link)
    feed = ListenerFeed(database.writer, stored, offered, Deliverer(database.writer, events, desk))
    return ListenerParts(stored, offered, feed, ListenerManager(database.writer, offered, feed))
