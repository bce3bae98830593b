"""The parent of all plugin processes: small, with one thread, and with everything loaded that Python plugins share.

A plugin in Python is a fork of it, so it starts in milliseconds and shares most of its memory; a program is executed
from a fork. gRPC is only imported here, never used: its threads and locks would not survive a fork. When the runtime
ends, however it ends, this process sees it and leaves no plugin behind.

`python -m portway.runtime.workers.fork_server CONTROL_DESCRIPTOR PARENT_PID FOLDER [GROUPS …]`
"""

import gc
import os
import selectors
import shutil
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import grpc.aio

from portway.rpc.control_groups import remove_tree
from portway.runtime.sdk.types.context import RunContext
from portway.runtime.sdk.types.convert import read
from portway.runtime.workers import linux
from portway.runtime.workers.child import become_plugin
from portway.runtime.workers.messages import (
    MAX_MESSAGE,
    Exited,
    Ready,
    Report,
    Signal,
    Start,
    Started,
    pack,
    unpack_request,
)
from portway.v1 import run_context_pb2

DESCRIPTORS = 2
# Tags of ended plugins whose descendants may still turn up.
MAX_DEAD_TAGS = 256
END_SECONDS = 2.0


class ForkServer:
    """Keeps the children by id, and their ends."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pids: dict[int, int] = {}
        self._starts: dict[int, Start] = {}
        self._dead_tags: dict[bytes, None] = {}
        self._reports: list[Report] = [Ready()]
        self._ended = False

    def run(self) -> None:
        """Until the runtime is gone or a signal says to end."""
        woken, waker = socket.socketpair()
        for end in (woken, waker):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end)
        with selectors.DefaultSelector() as selector:
            control = selector.register(self._control, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while not self._ended:
                self._flush()
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._reports else 0)
                if control.events != events:
                    control = selector.modify(self._control, events)
                ready = {key.fileobj for key, mask in selector.select() if mask & selectors.EVENT_READ}
                if woken in ready:
                    woken.recv(4096)
                    self._reap()
                if self._control in ready:
                    self._serve()

    def _end(self, *_: object) -> None:
        self._ended = True

    def _flush(self) -> None:
        while self._reports:
            try:
                self._control.send(pack(self._reports[0]))
            except BlockingIOError:
                return
            except OSError:
                self._ended = True
                return
            self._reports.pop(0)

    def _serve(self) -> None:
        try:
            raw, descriptors, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            raw, descriptors = b"", []
        if not raw:
            self._ended = True
            return
        try:
            match unpack_request(raw):
                case Start() as start:
                    self._start(start, *descriptors)
                case Signal() as wanted:
                    self._signal(wanted)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _start(self, start: Start, stdout: int, stderr: int) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._reports.append(Exited(start.id, error=f"cannot fork: {error.strerror}"))
            return
        if pid == 0:
            # The child never returns: the exit skips what belongs to the parent.
            os._exit(become_plugin(start, parent, stdout, stderr))
        self._pids[pid] = start.id
        self._starts[start.id] = start
        self._reports.append(Started(start.id, pid))

    def _signal(self, wanted: Signal) -> None:
        for pid, child in self._pids.items():
            if child == wanted.id:
                _signal_group(pid, wanted.number)

    def _reap(self) -> None:
        """Reports children that ended. The group goes before its leader is reaped: its number is taken until then."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while True:
            try:
                status = os.waitid(os.P_ALL, 0, options)
            except ChildProcessError:
                status = None
            if status is None:
                break
            child = self._pids.pop(status.si_pid, None)
            if child is not None:
                _signal_group(status.si_pid, signal.SIGKILL)
            os.waitpid(status.si_pid, 0)
            if child is not None:
                self._report_end(child, status)
        self._kill_left_behind()

    def _report_end(self, child: int, status: os.waitid_result) -> None:
        self._dead_tags[self._starts.pop(child).tag.encode()] = None
        if len(self._dead_tags) > MAX_DEAD_TAGS:
            del self._dead_tags[next(iter(self._dead_tags))]
        if status.si_code == os.CLD_EXITED:
            self._reports.append(Exited(child, code=status.si_status))
        else:
            self._reports.append(Exited(child, signal=status.si_status))

    def _kill_left_behind(self) -> None:
        """Processes that a plugin put outside its group are this process's once the plugin is gone."""
        for pid in linux.children_of_this_process():
            if pid in self._pids:
                continue
            environment = linux.environment_of(pid)
            if any(tag in environment for tag in self._dead_tags):
                _signal(pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """Ends every descendant; those of a killed child are adopted and killed in the next round."""
        end = time.monotonic() + END_SECONDS
        while time.monotonic() < end:
            children = linux.children_of_this_process()
            for pid in children:
                _signal_group(pid, signal.SIGKILL)
                _signal(pid, signal.SIGKILL)
            if not children:
                return
            for pid in children:
                os.waitpid(pid, 0)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        _signal(pid, number)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _load_what_is_shared() -> None:
    """Touches what every run needs, so that it is made once, here, and not in each fork."""
    read(RunContext, run_context_pb2.RunContext())
    assert grpc.aio.server is not None
    gc.collect()
    gc.disable()
    gc.freeze()


def main(arguments: list[str]) -> None:
    descriptor, parent, folder, *groups = int(arguments[0]), int(arguments[1]), *arguments[2:]
    linux.die_with_parent(parent, signal.SIGTERM)
    linux.adopt_orphans()
    linux.set_name("pw:fork-server")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _load_what_is_shared()
    control = socket.socket(fileno=descriptor)
    control.setblocking(False)
    server = ForkServer(control)
    try:
        server.run()
    finally:
        server.kill_all()
        shutil.rmtree(folder, ignore_errors=True)
        for base in groups:
            # The runtime does it too, unless it was killed.
            with suppress(OSError, TimeoutError):
                remove_tree(Path(base), patience=END_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1:])
