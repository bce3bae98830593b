"""A network between a program and a TCP server that a test cuts at a moment of its choice."""

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
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._refusing = False
        self._fatal = b""
        self._passes_it_on = False
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, refuse: bool = False) -> None:
        """Break every connection; with `refuse`, new ones too, until `mend`."""
        with self._lock:
            self._refusing = refuse
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _close(*pair)

    def mend(self) -> None:
        self._refusing = False

    def cut_at(self, word: bytes, *, pass_it_on: bool) -> None:
        """Break the connection on which this is sent next: before the server gets it, or after, without its answer."""
        self._passes_it_on, self._fatal = pass_it_on, word

    def close(self) -> None:
        self.cut(refuse=True)
        self._listener.close()

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
            with self._lock:
                self._pairs.append((client, server))
            dead = threading.Event()
            threading.Thread(target=self._forth, args=(client, server, dead), daemon=True).start()
            threading.Thread(target=self._back, args=(client, server, dead), daemon=True).start()

    def _forth(self, client: socket.socket, server: socket.socket, dead: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self._fatal and self._fatal in data:
                    self._fatal = b""
                    self.cuts += 1
                    dead.set()
                    if self._passes_it_on:
                        # The server answers into a connection that nobody reads.
                        server.sendall(data)
                        client.close()
                        server.shutdown(socket.SHUT_WR)
                        return
                    break
                server.sendall(data)
        _close(client, server)

    def _back(self, client: socket.socket, server: socket.socket, dead: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if not dead.is_set():
                    client.sendall(data)
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
