"""Sockets that listen inside a session and are accepted from outside; runs in a child of the launcher process."""

import contextlib
import os
import socket

from portway.box.backends.namespace.stage import SOCKETS_STAGED
from portway.box.backends.namespace.wire import ListenOrder
from portway.box.isolation import syscalls
from portway.box.isolation.syscalls import CLONE_NEWNET, CLONE_NEWNS

_LOOPBACK = "127.0.0.1"
# Connections beyond wait in the caller: the kernel answers nothing until one is taken.
BACKLOG = 64
_KINDS = {"tcp": (socket.AF_INET, socket.SOCK_STREAM), "udp": (socket.AF_INET, socket.SOCK_DGRAM)}
_IP_TRANSPARENT = 19
_UNIX = (socket.AF_UNIX, socket.SOCK_STREAM)


def open_listener(order: ListenOrder, mounts: int, network: int) -> socket.socket:
    """Enters a session and listens there. Raises `OSError`, EADDRINUSE where a program of the session was first."""
    syscalls.setns(network, CLONE_NEWNET)
    family, kind = _KINDS.get(order.kind, _UNIX)
    made = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    if family == socket.AF_UNIX:
        syscalls.setns(mounts, CLONE_NEWNS)
        _bind_in(made, order.name)
    else:
        if kind == socket.SOCK_STREAM:
            # A port whose last connections have only just ended can be had again at once.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if order.any_address:
            made.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
        made.bind((_LOOPBACK, order.port))
    if kind == socket.SOCK_STREAM:
        made.listen(BACKLOG)
    return made


def _bind_in(made: socket.socket, name: str) -> None:
    path = f"{SOCKETS_STAGED}/{name}"
    _unlink(path)
    made.bind(path)
    # The session's user is not this one, and nobody but the session sees the directory.
    os.chmod(path, 0o666)


def remove_socket(order: ListenOrder, mounts: int) -> None:
    """Enters a session and removes the path of a socket."""
    syscalls.setns(mounts, CLONE_NEWNS)
    _unlink(f"{SOCKETS_STAGED}/{order.name}")


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
