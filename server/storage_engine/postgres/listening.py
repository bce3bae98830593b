"""Hearing what other sessions of the database announce (LISTEN), over a connection of its own that comes back."""

import threading
from collections.abc import Callable

import psycopg

from portway.server.storage_engine.faults import StorageFault
from portway.server.storage_engine.postgres.link import Link

CHANNEL = "portway"
NOTIFY = f"SELECT pg_notify('{CHANNEL}', :topic)"
_LOOK_SECONDS = 0.5
_PAUSE_SECONDS = 0.5


class Listening:
    """A thread that calls `heard` with each topic, and `missed` whenever it may not have heard some."""

    def __init__(self, link: Link, heard: Callable[[str], object], missed: Callable[[], object]) -> None:
        self._link = link
        self._heard = heard
        self._missed = missed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="portway-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Blocks for half a second at most."""
        self._stop.set()
        self._link.stop_waiting()
        self._thread.join()

    def _serve(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._listen()
                except (StorageFault, psycopg.Error):
                    # Whoever waits looks by itself until the server is back.
                    self._link.drop()
                    self._stop.wait(_PAUSE_SECONDS)
        finally:
            self._link.close()

    def _listen(self) -> None:
        self._link.control(f"LISTEN {CHANNEL}")
        # What was announced before this moment was heard by nobody here.
        self._missed()
        while not self._stop.is_set():
            for notice in self._link.connection.notifies(timeout=_LOOK_SECONDS):
                self._heard(notice.payload)
            if not self._link.connected:
                return
