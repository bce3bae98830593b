"""The box server's end of the line to its launcher process."""

import asyncio
import contextlib
import errno
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portway.box.backends.namespace import wire
from portway.rpc.errors import Conflict, LimitExceeded, Reason, Unavailable, WrongState

START_SECONDS = 15.0
ANSWER_SECONDS = 60.0
_STOP_SECONDS = 10.0
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from portway.box.backends.namespace.zygote import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A launcher, or the command it became, and all of its processes are gone.

    Statuses are as from wait: of the launcher, and of the command itself where the kernel tells. `peak_memory`: bytes,
    of the largest process.
    """

    status: int
    cpu_seconds: float
    command_status: int | None
    peak_memory: int


@dataclass(frozen=True, slots=True)
class ZygoteSetup:
    """How to start the process: `base` is an empty directory to build its root on.

    `groups` are the installation's control groups, all of one name, which the process removes when the server is gone.

    `lock` is a locked descriptor that the process holds until it is gone.
    """

    root: bool
    base: str
    bwrap: str
    filters: tuple[bytes, bytes]
    groups: tuple[Path, ...]
    lock: int


class LaunchedProcess:
    """A forked launcher: the line to give it its command, and its end."""

    def __init__(self, pid: int, line: socket.socket, ended: "asyncio.Future[Ended]") -> None:
        self.pid = pid
        self.line = line
        self.ended = ended


class ZygoteClient:
    """Starts the launcher process and speaks with it. When it is lost, `on_lost` is called once and all waits fail."""

    def __init__(self, on_lost: Callable[[str], None]) -> None:
        self._on_lost = on_lost
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._requests = itertools.count(1)
        self._answers: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._ended: dict[int, asyncio.Future[Ended]] = {}
        self._ready: asyncio.Future[frozenset[str]] | None = None

    @property
    def alive(self) -> bool:
        return self._line is not None

    @property
    def pid(self) -> int:
        """The guard's process id; the launcher process is its only child and ends with it."""
        if self._process is None:
            raise Unavailable("the launcher process does not run")
        return self._process.pid

    async def start(self, setup: ZygoteSetup) -> frozenset[str]:
        """Returns the names in /proc of this machine. Raises `Unavailable` with the kernel's reason."""
        ours, theirs = wire.new_line()
        with theirs:
            self._process = _execute(theirs.fileno(), setup.lock)
        ours.setblocking(False)
        self._line = ours
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        loop.add_reader(ours, self._read)
        groups = [os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for path in setup.groups]
        try:
            filters = [program.hex() for program in setup.filters]
            name = setup.groups[0].name if setup.groups else ""
            message = {
                "root": setup.root,
                "base": setup.base,
                "bwrap": setup.bwrap,
                "filters": filters,
                "group_name": name,
            }
            wire.send(ours, message, groups)
            return await asyncio.wait_for(self._ready, START_SECONDS)
        except TimeoutError:
            raise Unavailable(f"the launcher process did not answer within {START_SECONDS:.0f} s") from None
        finally:
            for group in groups:
                os.close(group)

    async def ask(
        self, message: dict[str, Any], descriptors: list[int] | None = None
    ) -> tuple[dict[str, Any], list[int]]:
        """Sends an order (which must hold the number of `next_request`) and waits for its answer."""
        request = message["request"]
        answer: asyncio.Future[tuple[dict[str, Any], list[int]]] = asyncio.get_running_loop().create_future()
        self._answers[request] = answer
        try:
            self._send(message, descriptors)
            async with asyncio.timeout(ANSWER_SECONDS):
                answered, received = await answer
        except TimeoutError:
            raise Unavailable(f"the launcher process did not answer within {ANSWER_SECONDS:.0f} s") from None
        except BaseException:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                # It came in the moment in which nobody wanted it any more.
                for descriptor in answer.result()[1]:
                    os.close(descriptor)
            raise
        finally:
            del self._answers[request]
        if answered["kind"] == "failed":
            if answered.get("errno") in (errno.ENOSPC, errno.EDQUOT):
                raise LimitExceeded(answered["error"])
            raise Unavailable(answered["error"])
        if answered["kind"] == "unsupported":
            raise WrongState(answered["error"], reason=Reason.NOT_SUPPORTED_HERE)
        if answered["kind"] == "taken":
            raise Conflict(answered["error"])
        return answered, received

    def next_request(self) -> int:
        return next(self._requests)

    async def launch(self, order: dict[str, Any], places: list[int]) -> LaunchedProcess:
        """Forks a launcher that joins `places` (mounts, network, control groups) and waits on a line of its own."""
        ours, theirs = wire.new_line()
        with theirs:
            message = {"kind": "launcher", "request": self.next_request(), **order}
            try:
                answered, _none = await self.ask(message, [theirs.fileno(), *places])
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        pid = answered["pid"]
        return LaunchedProcess(pid, ours, self._ended[pid])

    async def watch(self, pid: int) -> None:
        """Waits until a launcher has become a sandbox with a command in it whose end will be told exactly."""
        await self.ask({"kind": "watch", "request": self.next_request(), "pid": pid})

    def signal(self, pid: int, number: int) -> None:
        if self.alive and pid in self._ended:
            self._send({"kind": "signal", "pid": pid, "signal": number}, None)

    def _send(self, message: dict[str, Any], descriptors: list[int] | None) -> None:
        if self._line is None:
            raise Unavailable("the launcher process of the box is gone; it is started again with the next session")
        try:
            wire.send(self._line, message, descriptors)
        except BlockingIOError:
            raise Unavailable("the launcher process is behind; try again", retry_after=0.2) from None
        except OSError as error:
            self._lose(f"the line to the launcher process broke: {error.strerror}")
            raise Unavailable("the launcher process of the box is gone; try again", retry_after=0.5) from None

    def _read(self) -> None:
        for _ in range(64):
            if self._line is None:
                return
            try:
                received = wire.receive(self._line)
            except BlockingIOError:
                return
            except OSError as error:
                return self._lose(f"the line to the launcher process broke: {error.strerror}")
            if received is None:
                return self._lose("the launcher process ended")
            self._take(*received)

    def _take(self, message: dict[str, Any], descriptors: list[int]) -> None:
        match message["kind"]:
            case "ended":
                ended = self._ended.pop(message["pid"], None)
                if ended is not None and not ended.done():
                    ended.set_result(_ended(message))
                return
            case "ready" if self._ready is not None and not self._ready.done():
                self._ready.set_result(frozenset(message["proc"]))
                return
            case "failed" if message["request"] == 0 and self._ready is not None and not self._ready.done():
                self._ready.set_exception(Unavailable(message["error"]))
                return
            case "launched":
                # Here and not where it is awaited: its end may be the very next message.
                self._ended[message["pid"]] = asyncio.get_running_loop().create_future()
        answer = self._answers.get(message["request"])
        if answer is not None and not answer.done():
            answer.set_result((message, descriptors))
            return
        for descriptor in descriptors:
            os.close(descriptor)

    def _lose(self, reason: str) -> None:
        line, self._line = self._line, None
        if line is None:
            return
        asyncio.get_running_loop().remove_reader(line)
        line.close()
        lost = Unavailable(f"{reason}; what ran in sandboxes was ended")
        waiting: list[asyncio.Future[Any]] = [*self._answers.values(), *self._ended.values()]
        self._ended.clear()
        if self._ready is not None:
            waiting.append(self._ready)
        for future in waiting:
            if not future.done():
                future.set_exception(lost)
                # Not every end is waited for by somebody.
                future.exception()
        self._on_lost(reason)

    async def stop(self) -> None:
        """Ends the process by closing the line; it kills everything and removes its groups before it is gone."""
        line, self._line = self._line, None
        if line is not None:
            asyncio.get_running_loop().remove_reader(line)
            line.close()
        if self._process is None:
            return
        process, self._process = self._process, None
        try:
            await asyncio.to_thread(process.wait, _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, _STOP_SECONDS)


def _ended(message: dict[str, Any]) -> Ended:
    return Ended(message["status"], message["cpu_seconds"], message["command_status"], message["peak_memory"])


def _execute(line: int, lock: int) -> "subprocess.Popen[bytes]":
    # Neither the environment nor site hooks of the machine decide what this process loads.
    program = [sys.executable, "-I", "-S", "-c", _PROGRAM]
    paths = json.dumps([path for path in sys.path if path])
    return subprocess.Popen(
        [*program, paths, str(line), str(lock)],
        env={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[line, lock],
        cwd="/",
        # A session of its own: Ctrl-C in a terminal is for the server, which then ends this in order.
        start_new_session=True,
    )
