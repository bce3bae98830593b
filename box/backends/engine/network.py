"""The network of a session's container, as the box reaches it: only with root's rights over the machine.

An engine makes it with nothing but a loopback. The box steers what leads elsewhere and listens there itself, so the
keeper needs no right over it.
"""

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from portway.box.backends.namespace.listening import open_listener
from portway.box.backends.namespace.wire import ListenOrder
from portway.box.backends.types import PortPlace, Steering
from portway.box.isolation import syscalls
from portway.box.isolation.syscalls import CLONE_NEWNET
from portway.box.network.steering import CannotSteer, steer
from portway.rpc.errors import Conflict, Unavailable, WrongState

T = TypeVar("T")


class ContainerNetwork:
    """Owns a descriptor of a container's network namespace. Its methods block for less than a millisecond."""

    def __init__(self, pid: int) -> None:
        """`pid`: the container's first process."""
        self._namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def steer(self, steering: Steering) -> None:
        """Raises `WrongState` where the kernel lacks what it takes."""
        try:
            self._inside(lambda: steer(steering))
        except CannotSteer as error:
            raise WrongState(str(error)) from None

    def listen(self, place: PortPlace) -> int:
        """Raises `Conflict` where the port is taken."""
        order = ListenOrder(0, place.protocol, port=place.port, any_address=place.any_address)
        try:
            return self._inside(lambda: open_listener(order, -1, self._namespace).detach())
        except OSError as error:
            kind = Conflict if error.errno == errno.EADDRINUSE else Unavailable
            raise kind(f"port {place.port} in the session: {error.strerror}") from None

    def _inside(self, work: Callable[[], T]) -> T:
        """On a thread of its own, which ends with it: nothing else of the box is ever in a session's network."""

        def enter() -> T:
            syscalls.setns(self._namespace, CLONE_NEWNET)
            return work()

        with ThreadPoolExecutor(1, thread_name_prefix="network-of-a-container") as alone:
            return alone.submit(enter).result()

    def close(self) -> None:
        os.close(self._namespace)
