"""The box's end of the line to a keeper."""

import asyncio
import contextlib
import itertools
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from portway.box.backends.namespace import wire
from portway.box.backends.types import ListenPlace, PortPlace, SocketPlace, check_socket_name
from portway.box.isolation.pidfd import watch_process
from portway.rpc.errors import Conflict, Unavailable

_ANSWER_SECONDS = 20.0
_PEER = struct.Struct("=iII")


class KeeperDoor:
    """The socket that a new container's keeper dials, once. `folder` is what the container finds as its own."""

    def __init__(self, folder: Path, *, shared: bool) -> None:
        """`shared`: the keeper is another user than this process, so the way to the socket has to be open to it."""
        self._folder = folder
        (folder / "kit").mkdir(mode=0o755, parents=True, exist_ok=True)
        os.chmod(folder, 0o711 if shared else 0o700)
        self._path = folder / "line"
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # By descriptor: the path of a data folder may be longer than a socket's name can be.
        parent = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.bind(f"/proc/self/fd/{parent}/line")
        finally:
            os.close(parent)
        os.chmod(self._path, 0o666 if shared else 0o600)
        self._socket.listen(1)
        self._socket.setblocking(False)

    async def opened_by(self, pid: int, patience: float) -> socket.socket:
        """The line to the keeper with this process id. Raises `Unavailable` where another or nobody dials."""
        try:
            async with asyncio.timeout(patience):
                line = await self._dialled(pid)
        except TimeoutError:
            raise Unavailable(
                f"the keeper in the container did not answer within {patience:.0f} s; the engine must run on this "
                "machine's own kernel and see the box's data folder"
            ) from None
        peer, _user, _group = _PEER.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if peer != pid:
            line.close()
            raise Unavailable(f"process {peer} dialled the box in the place of a session's keeper {pid}")
        return line

    async def _dialled(self, pid: int) -> socket.socket:
        """Raises `Unavailable` where the process ends without having dialled: nobody waits for it in vain."""
        loop = asyncio.get_running_loop()
        watched = watch_process(pid)
        dialling = asyncio.ensure_future(loop.sock_accept(self._socket))
        ended = asyncio.Event()
        ending = asyncio.ensure_future(ended.wait())
        if watched is None:
            ended.set()
        else:
            loop.add_reader(watched, ended.set)
        try:
            await asyncio.wait([dialling, ending], return_when=asyncio.FIRST_COMPLETED)
            if not dialling.done():
                raise Unavailable("the keeper in the container ended at once; has its image something at /.portway?")
            return dialling.result()[0]
        finally:
            if watched is not None:
                loop.remove_reader(watched)
                os.close(watched)
            for task in (dialling, ending):
                task.cancel()

    def close(self) -> None:
        """Nobody can dial any more."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


class KeeperClient:
    """Speaks with a keeper. When it is lost, `on_lost` is called once."""

    def __init__(self, line: socket.socket, on_lost: Callable[[], None]) -> None:
        self._line: socket.socket | None = line
        self._on_lost = on_lost
        self._requests = itertools.count(1)
        self._answers: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._gone = asyncio.Event()
        line.setblocking(False)
        self._answers[0] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(line, self._read)

    @property
    def alive(self) -> bool:
        return self._line is not None

    async def ready(self) -> None:
        await self._answer(0)

    async def open(self, paths: list[str]) -> list[int]:
        """Descriptors of directories in the container."""
        return await self._ask({"kind": "open", "paths": paths})

    async def listen(self, place: ListenPlace) -> int:
        """A listening socket in the container. Raises `Conflict` where a port is taken."""
        match place:
            case PortPlace():
                asked = {"socket": place.protocol.value, "port": place.port, "name": ""}
            case SocketPlace():
                check_socket_name(place.name)
                asked = {"socket": "unix", "port": 0, "name": place.name}
        (listening,) = await self._ask({"kind": "listen", **asked})
        return listening

    async def unlisten(self, name: str) -> None:
        check_socket_name(name)
        await self._ask({"kind": "unlisten", "name": name})

    async def _ask(self, message: dict[str, Any]) -> list[int]:
        request = next(self._requests)
        self._answers[request] = asyncio.get_running_loop().create_future()
        try:
            self._send({**message, "request": request}, [])
        except BaseException:
            del self._answers[request]
            raise
        return await self._answer(request)

    def give(self, kind: str, content: int, own: list[int], groups: list[int]) -> socket.socket:
        """Has something run. Returns its line; raises `Unavailable` where the keeper is gone."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._send({"kind": kind, "own": len(own)}, [theirs.fileno(), content, *own, *groups])
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        return ours

    def _send(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if self._line is None:
            raise Unavailable("the session's container is gone; it is made again with the next use", retry_after=0.5)
        try:
            wire.send(self._line, message, descriptors)
        except BlockingIOError:
            raise Unavailable("the session's keeper is behind; try again", retry_after=0.2) from None
        except OSError:
            self._lose()
            raise Unavailable("the session's container is gone; try again", retry_after=0.5) from None

    async def _answer(self, request: int) -> list[int]:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answered, received = await self._answers[request]
        except TimeoutError:
            raise Unavailable(f"the session's keeper did not answer within {_ANSWER_SECONDS:.0f} s") from None
        finally:
            del self._answers[request]
        if answered["kind"] == "failed":
            raise Unavailable(f"the session's container: {answered['error']}")
        if answered["kind"] == "taken":
            raise Conflict(answered["error"])
        return received

    def _read(self) -> None:
        while self._line is not None:
            try:
                received = wire.receive(self._line)
            except BlockingIOError:
                return
            except OSError:
                received = None
            if received is None:
                return self._lose()
            message, descriptors = received
            answer = self._answers.get(message["request"])
            if answer is not None and not answer.done():
                answer.set_result((message, descriptors))
            else:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _lose(self) -> None:
        if self._line is None:
            return
        self.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Unavailable("the session's container ended"))
                answer.exception()
        self._on_lost()

    def close(self) -> None:
        """The keeper ends when its line does, and the container with it."""
        line, self._line = self._line, None
        if line is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closing
                asyncio.get_running_loop().remove_reader(line)
            line.close()
