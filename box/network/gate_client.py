"""The box's end of the line to its gate: started with the first session that needs it, and again when it was lost."""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from portway.box.backends.namespace import wire
from portway.box.isolation.users import UserLease, UserPool
from portway.box.network.policy import NetworkUsage
from portway.box.network.settings import NetworkSettings
from portway.rpc.errors import Unavailable

_SECONDS = 15.0
_STOP_SECONDS = 5.0
_AGAIN_SECONDS = 0.5
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from portway.box.network.gate import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)


@dataclass(slots=True)
class _Opened:
    """A session that goes through the gate. The descriptors stay here too, for a gate that begins again."""

    allow: tuple[str, ...] | None
    descriptors: tuple[int, ...]
    earlier: NetworkUsage = field(default_factory=NetworkUsage)
    latest: NetworkUsage = field(default_factory=NetworkUsage)


class GateClient:
    """`refused` is told of a session's refusals in words, `lost` when the gate broke and begins again."""

    def __init__(
        self,
        settings: NetworkSettings,
        users: UserPool | None,
        refused: Callable[[str, str], None],
        lost: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._users = users
        self._refused = refused
        self._lost = lost
        self._lease: UserLease | None = None
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._starting = asyncio.Lock()
        self._requests = itertools.count(1)
        self._answers: dict[int, asyncio.Future[NetworkUsage]] = {}
        self._opened: dict[str, _Opened] = {}
        self._again: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def pid(self) -> int | None:
        """The gate's process id, while there is one."""
        return self._process.pid if self._process is not None else None

    async def open(self, session: str, allow: Sequence[str] | None, descriptors: Sequence[int]) -> None:
        """Has the gate serve a session's listening sockets, which this owns from here on. Raises `Unavailable`.

        With an allow list: one for the proxy. Without: one for all connections, and two for names.
        """
        opened = _Opened(tuple(allow) if allow is not None else None, tuple(descriptors))
        self._opened[session] = opened
        try:
            await self._ensure()
            await self._open(session, opened)
        except BaseException:
            await self._forget(session)
            raise

    async def usage(self, session: str) -> NetworkUsage:
        """What the session used. What a lost gate had not told is not counted."""
        opened = self._opened.get(session)
        if opened is None:
            return NetworkUsage()
        with contextlib.suppress(Unavailable):
            opened.latest = await self._ask({"kind": "usage", "session": session})
        return opened.earlier + opened.latest

    async def close(self, session: str) -> None:
        """Ends its connections. Nothing of it is left afterwards, whatever state the gate is in."""
        try:
            with contextlib.suppress(Unavailable):
                await self._ask({"kind": "close", "session": session})
        finally:
            await self._forget(session)

    async def _forget(self, session: str) -> None:
        opened = self._opened.pop(session, None)
        for descriptor in opened.descriptors if opened is not None else ():
            os.close(descriptor)

    async def _open(self, session: str, opened: _Opened) -> None:
        order = {"kind": "open", "session": session, "allow": opened.allow}
        await self._ask(order, list(opened.descriptors))

    async def _ensure(self) -> None:
        async with self._starting:
            if self._line is None:
                if self._stopped:
                    raise Unavailable("the box is ending")
                await self._start()

    async def _start(self) -> None:
        if self._lease is None and self._users is not None:
            self._lease = self._users.take()
        ours, theirs = wire.new_line()
        with theirs:
            self._process = _execute(theirs.fileno())
        ours.setblocking(False)
        self._line = ours
        loop = asyncio.get_running_loop()
        ready = self._ready = loop.create_future()
        loop.add_reader(ours, self._read)
        settings = self._settings
        rules = asdict(settings) | {"user": self._lease.user if self._lease else None}
        rules |= {"allowed": settings.allowed_private, "modes": None}
        wire.send(ours, rules)
        try:
            await asyncio.wait_for(ready, _SECONDS)
        except TimeoutError:
            self._lose("did not begin in time")
            raise Unavailable(
                f"the network gate did not begin within {_SECONDS:.0f} s; look at the box's log"
            ) from None

    async def _ask(self, message: dict[str, Any], descriptors: list[int] | None = None) -> NetworkUsage:
        request = next(self._requests)
        answer: asyncio.Future[NetworkUsage] = asyncio.get_running_loop().create_future()
        self._answers[request] = answer
        try:
            if self._line is None:
                raise Unavailable("the network gate of the box is gone and begins again", retry_after=0.5)
            wire.send(self._line, message | {"request": request}, descriptors)
            return await asyncio.wait_for(answer, _SECONDS)
        except (TimeoutError, OSError):
            raise Unavailable("the network gate of the box does not answer", retry_after=1.0) from None
        finally:
            del self._answers[request]

    def _read(self) -> None:
        for _ in range(64):
            if self._line is None:
                return
            try:
                received = wire.receive(self._line)
            except BlockingIOError:
                return
            except OSError:
                received = None
            if received is None:
                return self._lose("ended")
            self._take(received[0])

    def _take(self, message: dict[str, Any]) -> None:
        match message["kind"]:
            case "ready" if self._ready is not None and not self._ready.done():
                self._ready.set_result(None)
            case "refused":
                self._refused(message["session"], message["text"])
            case "usage":
                answer = self._answers.get(message["request"])
                if answer is not None and not answer.done():
                    answer.set_result(NetworkUsage(*message["figures"]))

    def _lose(self, reason: str) -> None:
        """Connections are lost; what listens inside the sessions is given to the next gate."""
        line, self._line = self._line, None
        if line is None:
            return
        asyncio.get_running_loop().remove_reader(line)
        line.close()
        gone = Unavailable("the network gate of the box ended; it begins again", retry_after=0.5)
        futures: list[asyncio.Future[Any]] = [*self._answers.values()]
        if self._ready is not None:
            futures.append(self._ready)
        for waiting in futures:
            if not waiting.done():
                waiting.set_exception(gone)
                waiting.exception()
        for opened in self._opened.values():
            opened.earlier, opened.latest = opened.earlier + opened.latest, NetworkUsage()
        if not self._stopped:
            self._lost(f"the network gate {reason}; connections of sessions were cut, and it begins again")
            self._again = asyncio.get_running_loop().create_task(self._begin_again(), name="network gate")

    async def _begin_again(self) -> None:
        await self._reap()
        while self._opened and self._line is None and not self._stopped:
            try:
                await self._ensure()
                for session, opened in list(self._opened.items()):
                    if session in self._opened:
                        await self._open(session, opened)
            except Unavailable:
                await asyncio.sleep(_AGAIN_SECONDS)

    async def stop(self) -> None:
        """Ends the gate."""
        self._stopped = True
        line, self._line = self._line, None
        if line is not None:
            asyncio.get_running_loop().remove_reader(line)
            line.close()
        if self._again is not None:
            self._again.cancel()
            await asyncio.gather(self._again, return_exceptions=True)
        await self._reap()
        for session in list(self._opened):
            await self._forget(session)
        if self._lease is not None:
            self._lease.release()

    async def _reap(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            await asyncio.to_thread(process.wait, _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)


def _execute(line: int) -> "subprocess.Popen[bytes]":
    # Neither the environment nor site hooks of the machine decide what this process loads.
    program = [sys.executable, "-I", "-S", "-c", _PROGRAM]
    paths = json.dumps([path for path in sys.path if path])
    return subprocess.Popen(
        [*program, paths, str(line), str(os.getpid())],
        env={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[line],
        cwd="/",
        start_new_session=True,
    )
