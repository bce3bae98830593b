"""The other end of the session bridge: a queue of files beside a desktop session, served on loopback.

`python -m portway.runtime.official.session_bridge.desk_queue --port 7790 --folder /home/ada/bridge`

A message is `inbox/ID.json`; whoever answers puts `outbox/ID.md` in place (written elsewhere and renamed, so that it is
whole). `token` in the folder opens the queue.
"""

import argparse
import asyncio
import json
import os
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

MAX_WAITING = 64
MAX_MESSAGE = 2 * 1024 * 1024
MAX_ANSWER = 768 * 1024
MAX_WAIT_SECONDS = 86_400.0
# Files that nobody waits for any more, from before the queue was killed.
_KEPT_SECONDS = 86_400.0
_LOOK_SECONDS = 0.1
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class MessageQueue:
    """The folder and who waits for it."""

    def __init__(self, folder: Path) -> None:
        self.inbox, self.outbox = folder / "inbox", folder / "outbox"
        self._waiting: set[str] = set()
        for one in (folder, self.inbox, self.outbox):
            one.mkdir(mode=0o700, exist_ok=True)
        self._token = _token(folder / "token")
        self._sweep()

    def opens(self, header: str) -> bool:
        return secrets.compare_digest(header.encode(), f"Bearer {self._token}".encode())

    @asynccontextmanager
    async def entered(self, message_id: str, message: object) -> AsyncIterator[None]:
        """The message is in the inbox while the block runs; its answer goes with it."""
        self._waiting.add(message_id)
        paths = (self.inbox / f"{message_id}.json", self.outbox / f"{message_id}.md")
        try:
            unfinished = self.inbox / f".{message_id}"
            # It may hold the token of the run's bridge.
            unfinished.touch(mode=0o600)
            unfinished.write_text(json.dumps(message, ensure_ascii=False, indent=2), encoding="utf-8")
            unfinished.replace(paths[0])
            yield
        finally:
            self._waiting.discard(message_id)
            for path in paths:
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
                if path.lstat().st_mtime < oldest:
                    path.unlink(missing_ok=True)


def application(queue: MessageQueue) -> Starlette:
    async def take(request: Request) -> Response:
        if not queue.opens(request.headers.get("authorization", "")):
            return _problem(401, "the token is that of the file `token` in the bridge's folder")
        if int(request.headers.get("content-length") or MAX_MESSAGE + 1) > MAX_MESSAGE:
            return _problem(413, f"a message has at most {MAX_MESSAGE >> 20} MiB")
        try:
            said = json.loads(await request.body())
            message_id, seconds = str(said["id"]), float(said["wait_seconds"])
        except (ValueError, KeyError, TypeError):
            return _problem(400, "a message is {id, wait_seconds, text, context}")
        if refused := queue.refuses(message_id):
            return _problem(refused, "the id is wrong or in use, or too many messages wait")
        async with queue.entered(message_id, said):
            try:
                async with asyncio.timeout(min(max(seconds, 0.0), MAX_WAIT_SECONDS)):
                    text = await queue.answer(message_id, request)
            except TimeoutError:
                return _problem(504, "nobody answered in time")
            except ValueError as error:
                return _problem(422, str(error))
        return JSONResponse({"text": text or ""})

    return Starlette(routes=[Route("/messages", take, methods=["POST"])])


def _problem(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)


def _read(path: Path) -> str:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
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
    queue = MessageQueue(given.folder)
    uvicorn.run(application(queue), host="127.0.0.1", port=given.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
