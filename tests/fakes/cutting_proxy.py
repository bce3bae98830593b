"""A network between a program and a TCP server that a test cuts, or lets fall silent, at a moment of its choice."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class CuttingProxy:
    """Passes bytes on both ways."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._pairs: dict[tuple[socket.socket, socket.socket], threading.Event] = {}
        self._lock = threading.Lock()
        self._refusing = False
        self._fatal = b""
        self._passes_it_on = False
        self._tells = True
        self._silent: list[socket.socket] = []
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, refuse: bool = False) -> None:
        """Break every connection; with `refuse`, new ones too, until `mend`."""
        with self._lock:
            self._refusing = refuse
            pairs, self._pairs = self._pairs, {}
        for pair in pairs:
            _close(*pair)

    def strand(self) -> int:
        """From now on nothing passes on the connections that there are, and nobody is told; new ones work. As when a
        machine on the way forgets about them. Answers how many they were."""
        with self._lock:
            for stranded in self._pairs.values():
                stranded.set()
            return len(self._pairs)

    def mend(self) -> None:
        self._refusing = False

    def cut_at(self, word: bytes, *, pass_it_on: bool, tell: bool = True) -> None:
        """Break the connection on which this is sent next: before the server gets it, or after, without its answer.
        Without `tell` the server does not hear that anybody left."""
        self._passes_it_on, self._tells, self._fatal = pass_it_on, tell, word

    def close(self) -> None:
        self.cut(refuse=True)
        self._listener.close()
        _close(*self._silent)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                refusing = self._refusing
            if refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            dead = threading.Event()
            with self._lock:
                self._pairs[(client, server)] = dead
            threading.Thread(target=self._forth, args=(client, server, dead), daemon=True).start()
            threading.Thread(target=self._back, args=(client, server, dead), daemon=True).start()

    def _forth(self, client: socket.socket, server: socket.socket, dead: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if dead.is_set():
                    continue
                if self._fatal and self._fatal in data:
                    self._fatal = b""
                    self.cuts += 1
                    dead.set()
                    if self._passes_it_on:
                        # The server answers into a connection that nobody reads.
                        server.sendall(data)
                        client.close()
                        if self._tells:
                            server.shutdown(socket.SHUT_WR)
                        return
                    # Broken for both: unlike a stranded one it does not stay there in silence.
                    with self._lock:
                        self._pairs.pop((client, server), None)
                    _close(client, server)
                    return
                server.sendall(data)
        self._end(client, server, dead)

    def _back(self, client: socket.socket, server: socket.socket, dead: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if not dead.is_set():
                    client.sendall(data)
        self._end(client, server, dead)

    def _end(self, client: socket.socket, server: socket.socket, dead: threading.Event) -> None:
        """One side has left; the other one hears of it, unless nothing passes any more."""
        with self._lock:
            known = self._pairs.pop((client, server), None) is not None
            if known and dead.is_set():
                # Kept open until the test ends: a silent connection does not even break.
                self._silent += [client, server]
                return
        _close(client, server)


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@contextmanager
def cutting_proxy(port: int) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
