"""What the fakes of services share: an HTTP server on a free port that checks requests, answers, and can be told to
answer badly. Each fake refuses what its vendor's documentation says is refused, and a request that no client of that
vendor would send fails the test."""

from __future__ import annotations

import asyncio
import json
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import uvicorn

from tests.fakes.model_api import Answer, Break, Hold, Receive, Scope, Send

KEY = "secret-key-0123456789"
F = TypeVar("F", bound="FakeService")


@dataclass(frozen=True)
class Upload:
    """A file of a form."""

    field: str
    name: str
    mime_type: str
    data: bytes


@dataclass(frozen=True)
class Asked:
    """A request. `body` is JSON or the fields of a form."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    files: tuple[Upload, ...] = ()


class Refused(Exception):
    """What the vendor answers to a request that it does not take."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


@dataclass
class FakeService(ABC):
    """`asked` has all requests. `pages` are what else is there, for everybody. `will` prepares answers to messages, in
    order, instead of the usual ones."""

    base_url: str = ""
    asked: list[Asked] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    client_left: asyncio.Event = field(default_factory=asyncio.Event)
    pages: dict[str, Answer] = field(default_factory=dict)
    _answers: deque[Answer] = field(default_factory=deque)

    @abstractmethod
    def answer(self, asked: Asked) -> Answer:
        """The usual answer; `Refused` for what is not taken."""

    @abstractmethod
    def is_message(self, asked: Asked) -> bool:
        """Whether a request is one that prepared answers are for."""

    def will(self, *answers: Answer) -> None:
        self._answers.extend(answers)

    def messages(self) -> list[Asked]:
        return [one for one in self.asked if self.is_message(one)]

    def need(self, condition: object, what: str) -> None:
        """Notes what no client of this vendor would do, and refuses it."""
        if not condition:
            self.violations.append(what)
            raise Refused(document({"code": "invalid_param", "message": what, "msg": what, "detail": what}, 400))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = _read(scope, await _body(receive))
        self.asked.append(asked)
        self.arrived.set()
        try:
            answer = self.pages.get(asked.path) or self.answer(asked)
        except Refused as refusal:
            answer = refusal.answer
        else:
            if self._answers and self.is_message(asked):
                answer = self._answers.popleft()
        await self._play(answer, receive, send)

    async def _play(self, answer: Answer, receive: Receive, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        for piece in answer.pieces:
            if isinstance(piece, Break):
                return
            if isinstance(piece, Hold):
                await self._hold(piece, receive, send)
            else:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _hold(self, hold: Hold, receive: Receive, send: Send) -> None:
        # What was sent so far must be on its way before the silence.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        waits = [asyncio.ensure_future(hold.until.wait()), asyncio.ensure_future(receive())]
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if waits[1] in done:
            self.client_left.set()


def document(value: object, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer((json.dumps(value).encode(),), status, {"content-type": "application/json", **named})


def page(status: int = 200) -> Answer:
    return Answer((b"<!DOCTYPE html><html><body>Bad Gateway</body></html>",), status, {"content-type": "text/html"})


def never() -> Hold:
    return Hold(asyncio.Event())


@asynccontextmanager
async def serve(fake: F) -> AsyncIterator[F]:
    listener = socket.create_server(("127.0.0.1", 0))
    fake.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(fake, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="fake service")
    try:
        yield fake
    finally:
        server.should_exit = True
        await serving
    assert not fake.violations, fake.violations


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message: MutableMapping[str, Any] = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


def _read(scope: Scope, raw: bytes) -> Asked:
    headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    query = dict(parse_qsl(scope["query_string"].decode()))
    kind = headers.get("content-type", "")
    body, files = (None, ()) if not raw else _form(kind, raw) if "multipart" in kind else (json.loads(raw), ())
    return Asked(scope["method"], scope["path"], query, headers, body, files)


def _form(kind: str, raw: bytes) -> tuple[dict[str, str], tuple[Upload, ...]]:
    message = BytesParser(policy=HTTP).parsebytes(b"content-type: " + kind.encode() + b"\r\n\r\n" + raw)
    fields: dict[str, str] = {}
    files = []
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        data = bytes(part.get_payload(decode=True) or b"")
        file_name = part.get_filename()
        if file_name is None:
            fields[name] = data.decode()
        else:
            files.append(Upload(name, file_name, part.get_content_type(), data))
    return fields, tuple(files)


def pieces(text: str) -> list[str]:
    """A text as a model says it: in words."""
    words = text.split(" ")
    return [word if index == 0 else f" {word}" for index, word in enumerate(words)]


def events(*items: tuple[str, object], end: str = "\n\n") -> tuple[bytes, ...]:
    """Server-sent events, cut at odd places on purpose."""
    text = ": keepalive\n\n" + "".join(
        (f"event: {name}\n" if name else "") + f"data: {json.dumps(data, ensure_ascii=False)}{end}"
        for name, data in items
    )
    raw = text.encode()
    return tuple(raw[start : start + 37] for start in range(0, len(raw), 37))


def stream(*parts: bytes) -> Answer:
    return Answer(parts, 200, {"content-type": "text/event-stream; charset=utf-8"})
