"""The gate: one small process through which all sessions with a network go. It is executed as nobody, with nothing.

The box hands it sockets that listen inside sessions; it connects out in their place and is in nobody's reach but by
them. It ends with the box's end of the line.
"""

import asyncio
import gc
import os
import resource
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from portway.box.backends.namespace import wire
from portway.box.isolation import syscalls
from portway.box.isolation.seccomp import program_files
from portway.box.network.addresses import AddressRules
from portway.box.network.allow_list import AllowList
from portway.box.network.dial import Dialer
from portway.box.network.dns import Forwarder, servers_of
from portway.box.network.session_gate import SessionGate

_KEPT_DESCRIPTORS = 512
_DESCRIPTORS_EACH = 3
_FEWEST_PLACES, _MOST_PLACES = 16, 4096
_LOOKUP_THREADS = 64
_THREAD_STACK_BYTES = 1024 * 1024
_MEMORY_BYTES = 1024 * 1024 * 1024


class Gate:
    """Obeys the box until it is gone."""

    def __init__(self, line: socket.socket, rules: dict[str, Any]) -> None:
        self._line = line
        self._rules = rules
        self._addresses = AddressRules(rules["allowed"], rules["denied"])
        self._servers = servers_of(rules["nameservers"])
        soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        affordable = (soft - _KEPT_DESCRIPTORS) // _DESCRIPTORS_EACH
        self._places = asyncio.Semaphore(min(max(_FEWEST_PLACES, affordable), _MOST_PLACES))
        self._sessions: dict[str, SessionGate] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._gone = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_LOOKUP_THREADS, "look-up"))
        loop.add_reader(self._line, self._read)
        self._send({"kind": "ready"})
        await self._gone.wait()
        # Threads that still look a name up are not waited for.
        os._exit(0)

    def _read(self) -> None:
        try:
            received = wire.receive(self._line)
        except BlockingIOError:
            return
        except OSError:
            received = None
        if received is None:
            asyncio.get_running_loop().remove_reader(self._line)
            self._gone.set()
            return
        self._obey(*received)

    def _obey(self, order: dict[str, Any], descriptors: list[int]) -> None:
        match order["kind"]:
            case "open":
                self._open(order, [socket.socket(fileno=number) for number in descriptors])
                self._tell_usage(order)
            case "usage":
                self._tell_usage(order)
            case "close":
                task = asyncio.ensure_future(self._close(order))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _open(self, order: dict[str, Any], listeners: list[socket.socket]) -> None:
        name, rules = order["session"], self._rules
        dialer = Dialer(self._addresses, rules["hosts"], rules["denied_ports"], rules["connect"])
        gate = SessionGate(
            dialer,
            self._places,
            rules["connections"],
            rules["idle"],
            rules["head"],
            lambda text: self._send({"kind": "refused", "session": name, "text": text}),
        )
        for listener in listeners:
            listener.setblocking(False)
        self._sessions[name] = gate
        if order["allow"] is not None:
            gate.serve_proxy(listeners[0], AllowList(order["allow"]))
        else:
            gate.serve_steered(listeners[0])
            gate.serve_names(listeners[1], listeners[2], Forwarder(self._servers))

    def _tell_usage(self, order: dict[str, Any]) -> None:
        gate = self._sessions.get(order["session"])
        usage = gate.usage() if gate is not None else None
        figures = [usage.sent_bytes, usage.received_bytes, usage.connection_count, usage.refused_count] if usage else []
        self._send({"kind": "usage", "request": order["request"], "figures": figures})

    async def _close(self, order: dict[str, Any]) -> None:
        gate = self._sessions.get(order["session"])
        if gate is not None:
            await gate.close()
        self._tell_usage(order)
        self._sessions.pop(order["session"], None)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            wire.send(self._line, message)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            # A box that does not read asks again, or is gone.
            return


def _give_up_rights(user: int | None) -> None:
    """No rights, no way to get any, and nothing that the box's own user may open, where it has another to be."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Not 0: where core dumps go to a program, only 1 keeps that program from being run.
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    threading.stack_size(_THREAD_STACK_BYTES)
    programs = [file.read_bytes() for file in program_files()]
    if user is not None:
        syscalls.drop_bounding_set()
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        syscalls.drop_capabilities()
    syscalls.set_no_new_privileges()
    for program in programs:
        syscalls.load_filter(program)
    syscalls.set_not_dumpable()
    # A change of user takes the signal away.
    syscalls.set_parent_death_signal(signal.SIGKILL)


def main(descriptor: int, parent: int) -> None:
    """Runs on the line with this descriptor until the process `parent` is gone."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=descriptor)
    line.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    received = wire.receive(line)
    if received is None:
        return
    rules, _none = received
    _give_up_rights(rules["user"])
    if os.getppid() != parent:
        return
    line.setblocking(False)
    gc.freeze()
    asyncio.run(Gate(line, rules).run())
