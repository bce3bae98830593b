"""Streamable HTTP: one address, where a run's programs post messages of MCP."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from portway.rpc.errors import LimitExceeded, PortwayError, Reason
from portway.server.bridge import jsonrpc
from portway.server.bridge.config import BridgeLimits
from portway.server.bridge.door import BridgeDoor, Turned
from portway.server.bridge.exchange import Exchange, left
from portway.server.bridge.jsonrpc import Malformed, Message, Notification, Request, RpcError
from portway.server.bridge.protocol import BATCHES, INITIALIZE, TOOLS_CALL, VERSIONS
from portway.server.bridge.protocol import Protocol as Methods
from portway.server.bridge.sessions import Session
from portway.server.gateway.door import ONLY_RUN
from portway.server.gateway.entering import Gone, Receive
from portway.server.gateway.reply import Reply, Send
from portway.server.runner_calls.pipeline import meaning_of
from portway.server.runner_calls.scope import RunScope

ENTRY = "MCP_BRIDGE"
SESSION = "mcp-session-id"
_VERSION = "mcp-protocol-version"
_CANCELLED = "notifications/cancelled"
_JSON, _EVENTS = "application/json", "text/event-stream"
_NO_STATUS = {"x-content-type-options": "nosniff"}


class Ledger(Protocol):
    """Where calls are recorded: the ledger of the run whose token it is."""

    def note(self, token_id: str, reason: str, summary: str) -> None:
        """One entry, unless the run has ended."""


@dataclass(frozen=True, slots=True)
class _Visit:
    """One POST of a program that was let in."""

    run: RunScope
    token_id: str
    headers: Mapping[str, str]
    receive: Receive
    reply: Reply

    def accepts(self, kind: str) -> bool:
        accepted = self.headers.get("accept", "*/*").lower()
        return kind in accepted or "*/*" in accepted


class Bridge:
    """An ASGI application for one path."""

    def __init__(self, door: BridgeDoor, methods: Methods, ledger: Ledger, limits: BridgeLimits) -> None:
        self._door = door
        self._methods = methods
        self._ledger = ledger
        self._limits = limits

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        reply = Reply(send, self._limits.write_seconds)
        try:
            await self._admit(scope, receive, reply)
        except Gone:
            return
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - a supervisor: the failure of a request is its answer
            await _refuse(reply, error)

    async def _admit(self, scope: Mapping[str, Any], receive: Receive, reply: Reply) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        self._door.check_names(headers)
        run, token_id = self._door.run_of(headers, scope.get("state", {}).get(ONLY_RUN, ""))
        visit = _Visit(run, token_id, headers, receive, reply)
        match scope["method"]:
            case "POST":
                with self._door.inside(run):
                    await self._post(visit)
            case "DELETE":
                run.bridge.close(_session(visit))
                await reply.json({}, 200, _NO_STATUS)
            case _:
                # A stream beside the requests would have nothing to say: what a run was given does not change.
                raise Turned(405, "the bridge takes POST and DELETE", allow="POST, DELETE")

    async def _post(self, visit: _Visit) -> None:
        kind = visit.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _JSON:
            raise Turned(415, f"messages are sent as {_JSON}", Reason.INVALID_FIELD)
        if not visit.accepts(_JSON):
            raise Turned(406, f"answers are {_JSON} or {_EVENTS}; accept both", Reason.INVALID_FIELD)
        found = jsonrpc.parse(await self._door.body(visit.receive, visit.headers))
        if isinstance(found, Sequence):
            await self._batch(visit, found)
        elif isinstance(found, Malformed):
            await visit.reply.json(found.error.body(found.request_id), 400)
        elif isinstance(found, Request) and found.method == INITIALIZE:
            session, result = self._methods.begin(visit.run, found.params)
            answer = {"jsonrpc": "2.0", "id": found.request_id, "result": result}
            await visit.reply.json(answer, 200, {SESSION: session.session_id})
        elif isinstance(found, Request):
            await self._request(visit, _session(visit), found)
        else:
            self._noted(_session(visit), found)
            await visit.reply.empty(202)

    async def _request(self, visit: _Visit, session: Session, request: Request) -> None:
        streams = visit.accepts(_EVENTS)
        exchange = Exchange(visit.run, request, visit.reply, streams=streams, beat=self._limits.heartbeat)
        outcome = "the program went away"
        try:
            outcome = await exchange.serve(
                session, visit.receive, lambda tell: self._methods.answer(visit.run, session, request, tell)
            )
        finally:
            self._write_down(visit, request, outcome)

    async def _batch(self, visit: _Visit, messages: Sequence[Message]) -> None:
        """Of older versions: answered together, as JSON."""
        session = _session(visit)
        if session.version not in BATCHES:
            raise RpcError(jsonrpc.INVALID_REQUEST, f"version {session.version} has no batches; send one message")
        requests = [one for one in messages if isinstance(one, Request | Malformed)]
        for one in messages:
            self._noted(session, one)
        if not requests:
            await visit.reply.empty(202)
            return
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(self._all_of(visit, session, requests))
            leaving = group.create_task(left(visit.receive))
            ending = group.create_task(visit.run.over.wait())
            await asyncio.wait({answering, leaving, ending}, return_when=asyncio.FIRST_COMPLETED)
            answered = answering.done()
            for task in (answering, leaving, ending):
                task.cancel()
        if answered:
            await visit.reply.json(answering.result())
            return
        visit.run.check_alive()
        raise Gone

    async def _all_of(
        self, visit: _Visit, session: Session, requests: Sequence[Request | Malformed]
    ) -> list[Mapping[str, Any]]:
        return await asyncio.gather(*(self._one_of(visit, session, one) for one in requests))

    async def _one_of(self, visit: _Visit, session: Session, request: Request | Malformed) -> Mapping[str, Any]:
        if isinstance(request, Malformed):
            return request.error.body(request.request_id)
        if request.method == INITIALIZE:
            return RpcError(jsonrpc.INVALID_REQUEST, "initialize is sent alone").body(request.request_id)
        try:
            result = await self._methods.answer(visit.run, session, request, _tell_nobody)
        except RpcError as error:
            return error.body(request.request_id)
        self._write_down(visit, request, "error" if result.get("isError") else "ok")
        return {"jsonrpc": "2.0", "id": request.request_id, "result": result}

    def _noted(self, session: Session, message: Message) -> None:
        if isinstance(message, Notification) and message.method == _CANCELLED:
            request_id = message.params.get("requestId")
            if isinstance(request_id, str | int):
                session.give_up(request_id)

    def _write_down(self, visit: _Visit, request: Request, outcome: str) -> None:
        if request.method == TOOLS_CALL:
            name = str(request.params.get("name", ""))[:100]
            if name == "tool_call":
                inner = request.params.get("arguments")
                name = f"{name} {str(inner.get('name', ''))[:256]}" if isinstance(inner, dict) else name
            self._ledger.note(visit.token_id, ENTRY, f"{name}: {outcome}")


def bridge_application(bridge: Bridge, path: str) -> Callable[..., Awaitable[None]]:
    """The bridge at its path, and nothing elsewhere."""

    async def application(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        # Where it is mounted, the path of the mount is told apart from it.
        if str(scope["path"]).removeprefix(str(scope.get("root_path", ""))).rstrip("/") == path:
            await bridge(scope, receive, send)
        else:
            await _refuse(Reply(send, 5.0), Turned(404, f"the bridge is at {path}"))

    return application


def _session(visit: _Visit) -> Session:
    """Raises Turned (400, 404)."""
    version = visit.headers.get(_VERSION)
    if version is not None and version not in VERSIONS:
        raise Turned(400, f"the protocol version is none of {', '.join(VERSIONS)}", Reason.INVALID_FIELD)
    session_id = visit.headers.get(SESSION)
    if session_id is None:
        raise Turned(400, "send `initialize` first, and its Mcp-Session-Id with everything else", Reason.INVALID_FIELD)
    session = visit.run.bridge.find(session_id)
    if session is None:
        raise Turned(404, "there is no such session (any more); send `initialize` again", Reason.NOT_FOUND)
    return session


async def _tell_nobody(line: str, fraction: float | None) -> None:
    return None


async def _refuse(reply: Reply, error: BaseException) -> None:
    """Nothing of what went wrong inside is told."""
    if reply.started:
        return
    headers: dict[str, str] = {"connection": "close"}
    match error:
        case Turned():
            status, headers = error.status, headers | error.headers
            refused = RpcError(jsonrpc.REFUSED, error.message, {"reason": error.reason} if error.reason else None)
        case RpcError():
            status, refused = 400, error
        case _:
            meaning = error if isinstance(error, PortwayError) else meaning_of(error, "bridge")
            status = 429 if isinstance(meaning, LimitExceeded) else 500
            if meaning.retry_after is not None:
                headers["retry-after"] = str(max(1, round(meaning.retry_after)))
            refused = RpcError(jsonrpc.REFUSED, meaning.message, {"reason": str(meaning.reason)})
    try:
        await reply.json(refused.body(None), status, headers)
    except Gone:
        return
