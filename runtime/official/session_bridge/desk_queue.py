"""The other end of the session bridge: a queue of files beside a desktop session, served on loopback.

`python -m portway.runtime.official.session_bridge.desk_queue --port 7790 --folder /home/ada/bridge`

A message is `inbox/ID.json`; whoever answers puts `outbox/ID.md` in place (written elsewhere and renamed, so that it is
whole). `token` in the folder opens the queue.
"""

import argparse
import asyncio
import fcntl
import json
import math
import os
import re
import secrets
import socket
import stat
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from portway.runtime.official.session_bridge.proof import proof_of

MAX_WAITING = 64
MAX_MESSAGE = 2 * 1024 * 1024
MAX_ANSWER = 768 * 1024
MAX_WAIT_SECONDS = 86_400.0
# Files that nobody waits for any more, from before the queue was killed.
_KEPT_SECONDS = 86_400.0
_LOOK_SECONDS = 0.1
_NONCE = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class MessageQueue:
    """The folder and who waits for it."""

    def __init__(self, folder: Path) -> None:
        """Raises BlockingIOError where another queue has the folder."""
        self.inbox, self.outbox = folder / "inbox", folder / "outbox"
        self._waiting: set[str] = set()
        for one in (folder, self.inbox, self.outbox):
            one.mkdir(mode=0o700, exist_ok=True)
        # As long as this process: another queue over the same folder would take its answers away.
        self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._token = _token(folder / "token")
        self._sweep()

    def opens(self, header: str) -> bool:
        return secrets.compare_digest(header.encode(), f"Bearer {self._token}".encode())

    def proof(self, nonce: str) -> str:
        """What only who knows the token can say."""
        return proof_of(self._token, nonce)

    @asynccontextmanager
    async def entered(self, message_id: str, message: object) -> AsyncIterator[None]:
        """The message is in the inbox while the block runs; its answer goes with it."""
        self._waiting.add(message_id)
        # Answers that came when nobody waited for them any more.
        self._sweep()
        unfinished = self.inbox / f".{message_id}"
        paths = (self.inbox / f"{message_id}.json", self.outbox / f"{message_id}.md", unfinished)
        try:
            # It may hold the token of the run's bridge.
            unfinished.touch(mode=0o600)
            unfinished.write_text(json.dumps(message, ensure_ascii=False, indent=2), encoding="utf-8")
            unfinished.replace(paths[0])
            yield
        finally:
            self._waiting.discard(message_id)
            for path in paths:
                with suppress(IsADirectoryError, PermissionError):
                    path.unlink(missing_ok=True)

    def refuses(self, message_id: str) -> int:
        """The status with which a message is not taken; 0 where it is."""
        if not _ID.fullmatch(message_id):
            return 400
        if message_id in self._waiting:
            return 409
        return 429 if len(self._waiting) >= MAX_WAITING else 0

    async def answer(self, message_id: str, request: Request) -> str | None:
        """None where whoever asked has gone."""
        while not await request.is_disconnected():
            with suppress(FileNotFoundError):
                return await asyncio.to_thread(_read, self.outbox / f"{message_id}.md")
            await asyncio.sleep(_LOOK_SECONDS)
        return None

    def _sweep(self) -> None:
        oldest = time.time() - _KEPT_SECONDS
        for folder in (self.inbox, self.outbox):
            for path in folder.iterdir():
                with suppress(OSError):
                    if path.lstat().st_mtime < oldest and path.stem.lstrip(".") not in self._waiting:
                        path.unlink()


@dataclass(frozen=True, slots=True)
class Door:
    """The queue as HTTP."""

    queue: MessageQueue

    async def hello(self, request: Request) -> Response:
        """Who asks learns that the token is known here, and not the token."""
        said = await _said(request)
        nonce = said.get("nonce") if isinstance(said, dict) else None
        if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
            return _problem(400, "a nonce is 64 hexadecimal digits")
        return JSONResponse({"proof": self.queue.proof(nonce)})

    async def messages(self, request: Request) -> Response:
        """Waits for the answer to a message."""
        if not self.queue.opens(request.headers.get("authorization", "")):
            return _problem(401, "the token is that of the file `token` in the bridge's folder")
        said = await _said(request)
        if said is None:
            return _problem(413, f"a message is JSON of at most {MAX_MESSAGE >> 20} MiB, with its length")
        try:
            message_id, seconds = str(said["id"]), float(said["wait_seconds"])
        except (ValueError, KeyError, TypeError):
            return _problem(400, "a message is {id, wait_seconds, text, context}")
        if not math.isfinite(seconds):
            return _problem(400, "wait_seconds is a number")
        if refused := self.queue.refuses(message_id):
            return _problem(refused, "the id is wrong or in use, or too many messages wait")
        async with self.queue.entered(message_id, said):
            return await self._answered(request, message_id, min(max(seconds, 0.0), MAX_WAIT_SECONDS))

    async def _answered(self, request: Request, message_id: str, seconds: float) -> Response:
        try:
            async with asyncio.timeout(seconds):
                text = await self.queue.answer(message_id, request)
        except TimeoutError:
            return _problem(504, "nobody answered in time")
        except ValueError as error:
            return _problem(422, str(error))
        except OSError as error:
            return _problem(422, f"the answer cannot be read: {error.strerror}; it is a plain file")
        return JSONResponse({"text": text or ""})


def application(queue: MessageQueue) -> Starlette:
    door = Door(queue)
    routes = [Route("/messages", door.messages, methods=["POST"]), Route("/hello", door.hello, methods=["POST"])]
    return Starlette(routes=routes)


async def _said(request: Request) -> Any:
    """The body as JSON; None where it is none, or too long."""
    length = request.headers.get("content-length", "")
    if not length.isascii() or not length.isdigit() or int(length) > MAX_MESSAGE:
        return None
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        return None


def _problem(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)


def _read(path: Path) -> str:
    # A pipe would be waited for until somebody writes into it.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("the answer is no plain file")
        data = file.read(MAX_ANSWER + 1)
    if len(data) > MAX_ANSWER:
        raise ValueError(f"the answer has more than {MAX_ANSWER >> 10} KiB")
    return data.decode(errors="replace")


def _token(path: Path) -> str:
    with suppress(FileExistsError):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text(encoding="ascii").strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="portway session bridge", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    try:
        queue = MessageQueue(given.folder)
    except BlockingIOError:
        sys.exit(f"another queue serves {given.folder}: end it, or give this one a folder of its own")
    except OSError as error:
        sys.exit(f"{given.folder} cannot be used: {error.strerror}; give the bridge a folder of your own")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", given.port))
        except OSError as error:
            said = f"port {given.port} cannot be had: {error.strerror}"
            sys.exit(f"{said}; give the bridge another one, here and in runtime.session_bridges")
        config = uvicorn.Config(application(queue), log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
