"""A strict model endpoint on a free loopback port that speaks both wire formats.

It answers what a test scripted, in order, and nothing else: a request that no answer was prepared for, a request
whose shape the vendor would refuse, and an answer that nobody asked for all fail the test when the server closes.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Break:
    """Closes the connection without ending the answer."""


@dataclass(frozen=True)
class Hold:
    """Sends nothing more until the event is set (or the client leaves)."""

    until: asyncio.Event


Piece = bytes | Break | Hold


@dataclass(frozen=True)
class Answer:
    """One scripted answer: status, headers, and the pieces of its body."""

    pieces: tuple[Piece, ...]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})


def failure(status: int, body: object, **headers: str) -> Answer:
    """An error answer with a JSON body; header names are given with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer((json.dumps(body).encode(),), status, {"content-type": "application/json", **named})


@dataclass(frozen=True)
class Recorded:
    """A request as the server saw it."""

    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class FakeModelApi:
    """The server's state: what to answer, what was asked, what was wrong."""

    api_key: str = "test-key"
    base_url: str = ""
    requests: list[Recorded] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    client_left: asyncio.Event = field(default_factory=asyncio.Event)
    # Answers that are given whenever they fit, without being used up.
    standing: list[tuple[Callable[[Recorded], bool], Answer]] = field(default_factory=list)
    _answers: deque[Answer] = field(default_factory=deque)

    def will(self, *answers: Answer) -> None:
        """Prepares the next answers."""
        self._answers.extend(answers)

    def settle(self) -> None:
        """Fails when the test and the client disagreed about the traffic."""
        assert not self.violations, "the model endpoint saw wrong requests: " + "; ".join(self.violations)
        assert not self._answers, f"{len(self._answers)} prepared model answers were never asked for"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await _read_body(receive)
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        request = Recorded(scope["path"], headers, json.loads(body) if body else None)
        self.requests.append(request)
        self.arrived.set()
        await self._play(self._choose(request), receive, send)

    def _choose(self, request: Recorded) -> Answer:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        wrong = _shape_error(request)
        for fits, answer in self.standing:
            if wrong is None and fits(request):
                return answer
        if wrong is None and not self._answers:
            wrong = f"unexpected request to {request.path}"
        if wrong is not None:
            self.violations.append(wrong)
            return failure(400, {"error": {"type": "invalid_request_error", "message": wrong}})
        return self._answers.popleft()

    def _refusal(self, request: Recorded) -> Answer | None:
        """What the vendors answer to a wrong key, without using up a prepared answer."""
        # Anthropic takes the key as a bearer token (its SDK since 2.0) and in a header of its own.
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        given = request.headers.get("x-api-key") or bearer
        if given == self.api_key:
            return None
        # The vendor repeats the key in its answer; the client must not pass that on.
        message = f"Incorrect API key provided: {given}."
        if request.path.endswith("/messages"):
            return failure(401, {"type": "error", "error": {"type": "authentication_error", "message": message}})
        return failure(401, {"error": {"message": message, "type": "invalid_request_error", "code": "invalid_api_key"}})

    async def _play(self, answer: Answer, receive: Receive, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        for piece in answer.pieces:
            if isinstance(piece, Break):
                return  # Leaving without the last body message makes the server cut the connection.
            if isinstance(piece, Hold):
                await self._hold(piece, receive)
            else:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _hold(self, hold: Hold, receive: Receive) -> None:
        waits = [asyncio.ensure_future(hold.until.wait()), asyncio.ensure_future(receive())]
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if waits[1] in done:
            self.client_left.set()


async def _read_body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


def _shape_error(request: Recorded) -> str | None:
    """Names the first thing that the vendor's API would refuse."""
    body = request.body
    if isinstance(body, dict) and body.get("model") and request.path in _OTHER_SHAPES:
        return _OTHER_SHAPES[request.path](body)
    if not isinstance(body, dict) or not body.get("model") or not body.get("messages"):
        return f"{request.path}: model and messages are required"
    if request.path == "/v1/messages":
        return _anthropic_shape_error(request)
    if request.path == "/v1/chat/completions":
        return _openai_shape_error(body)
    return f"unknown path {request.path}"


def _anthropic_shape_error(request: Recorded) -> str | None:
    body = request.body
    if "anthropic-version" not in request.headers:
        return "header anthropic-version is missing"
    if not isinstance(body.get("max_tokens"), int):
        return "max_tokens is required"
    calls: set[str] = set()
    for message in body["messages"]:
        if message["role"] not in ("user", "assistant"):
            return f"role {message['role']} does not exist in this API"
        blocks = message["content"] if isinstance(message["content"], list) else []
        unknown = {b["tool_use_id"] for b in blocks if b["type"] == "tool_result"} - calls
        if unknown:
            return f"tool_result for unknown tool_use {sorted(unknown)}"
        calls = {b["id"] for b in blocks if b["type"] == "tool_use"}
    return None


def _openai_shape_error(body: Mapping[str, Any]) -> str | None:
    calls: set[str] = set()
    for message in body["messages"]:
        if message["role"] == "assistant":
            calls |= {call["id"] for call in message.get("tool_calls") or []}
        if message["role"] == "tool" and message["tool_call_id"] not in calls:
            return f"tool message for unknown call {message['tool_call_id']}"
    return None


def _embedding_shape_error(body: Mapping[str, Any]) -> str | None:
    given = body.get("input")
    if not isinstance(given, list) or not given or len(given) > 256 or not all(isinstance(one, str) for one in given):
        return "input has 1 to 256 texts"
    return None


def _rerank_shape_error(body: Mapping[str, Any]) -> str | None:
    if not isinstance(body.get("query"), str) or not isinstance(body.get("documents"), list):
        return "query and documents are required"
    if not 1 <= body.get("top_n", 1) <= len(body["documents"]):
        return "top_n is between 1 and the number of documents"
    return None


_OTHER_SHAPES: Mapping[str, Callable[[Mapping[str, Any]], str | None]] = {
    "/v1/embeddings": _embedding_shape_error,
    "/v1/rerank": _rerank_shape_error,
}


@asynccontextmanager
async def serve_fake_model_api(api_key: str = "test-key") -> AsyncIterator[FakeModelApi]:
    """Runs the endpoint; `base_url` has no path, so append `/v1` for the OpenAI format."""
    listener = socket.create_server(("127.0.0.1", 0))
    fake = FakeModelApi(api_key, f"http://127.0.0.1:{listener.getsockname()[1]}")
    config = uvicorn.Config(fake, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    # Held here and awaited below: a TaskGroup would wrap the failures of the test body in a group.
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="fake model endpoint")
    try:
        yield fake
    finally:
        server.should_exit = True
        await serving
    fake.settle()
