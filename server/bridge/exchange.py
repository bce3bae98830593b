"""One request on its way: answered as JSON at once, or as a stream of events that says that it goes on."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from portway.rpc.errors import PortwayError
from portway.server.bridge import jsonrpc
from portway.server.bridge.jsonrpc import Request, RpcError
from portway.server.bridge.sessions import AlreadyUnderWay, Session
from portway.server.bridge.tools import Tell
from portway.server.gateway import sse
from portway.server.gateway.entering import Gone, Receive
from portway.server.gateway.reply import Reply
from portway.server.runner_calls.pipeline import meaning_of
from portway.server.runner_calls.scope import RunScope, run_finished

Work = Callable[[Tell], Awaitable[Mapping[str, Any]]]
# Between two steps that have no fraction of their own: progress must grow.
_STEP = 0.001
_LINE = 1000
_WAITING = "waiting for a person to approve"
_COMMENT = b": still under way\n\n"


class Exchange:
    """`streams`: the client takes events. `beat`: seconds between signs that it goes on."""

    def __init__(self, run: RunScope, request: Request, reply: Reply, *, streams: bool, beat: float) -> None:
        self._run = run
        self._request = request
        self._reply = reply
        self._streams = streams
        self._beat = beat
        self._token = _progress_token(request)
        self._progress = 0.0
        self._said = "under way"
        self._writing = asyncio.Lock()

    async def serve(self, session: Session, receive: Receive, work: Work) -> str:
        """Answers, unless the client leaves or gives up, or the run ends first; says which. Raises Gone."""
        try:
            with session.asking(self._request.request_id) as given_up:
                return await self._served(given_up, receive, work)
        except AlreadyUnderWay:
            error = RpcError(jsonrpc.INVALID_REQUEST, "a request with this id is under way; use a new one")
            await self._end(error.body(self._request.request_id))
            return "id in use"

    async def _served(self, given_up: asyncio.Event, receive: Receive, work: Work) -> str:
        run = self._run
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(_outcome(work(self.tell)))
            leaving = group.create_task(left(receive))
            beating = group.create_task(_outcome(self._beats()))
            stopping = group.create_task(given_up.wait())
            ending = group.create_task(run.over.wait())
            waiting = {answering, leaving, beating, stopping, ending}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            answered, gone, stopped = answering.done(), leaving.done() or beating.done(), stopping.done()
            for task in waiting:
                task.cancel()
        if answered:
            return await self._answered(answering.result())
        if gone:
            raise Gone
        if stopped:
            await self._say_nothing()
            return "cancelled by the client"
        await self._answered(run.ended or run_finished(run.run_id, "ended"))
        return "the run ended"

    async def tell(self, line: str, fraction: float | None) -> None:
        """How far it is, to a client that wants to know."""
        self._said = line[:_LINE]
        if not self._streams or self._token is None:
            return
        percent = 0.0 if fraction is None else 100.0 * fraction
        self._progress = max(self._progress + _STEP, percent)
        params = {"progressToken": self._token, "progress": self._progress, "message": self._said}
        if fraction is not None:
            params["total"] = 100.0
        await self._event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    async def _beats(self) -> None:
        while True:
            await asyncio.sleep(self._beat)
            if self._streams and self._token is None:
                async with self._writing:
                    await self._reply.pieces([_COMMENT])
            else:
                await self.tell(_WAITING if self._run.stands_still else self._said, None)

    async def _answered(self, outcome: Mapping[str, Any] | BaseException) -> str:
        request_id = self._request.request_id
        if not isinstance(outcome, BaseException):
            await self._end({"jsonrpc": "2.0", "id": request_id, "result": outcome})
            return "error" if outcome.get("isError") else "ok"
        if isinstance(outcome, Gone):
            raise outcome
        if isinstance(outcome, RpcError):
            await self._end(outcome.body(request_id))
            return f"error {outcome.code}"
        error = outcome if isinstance(outcome, PortwayError) else meaning_of(outcome, self._request.method)
        refused = RpcError(jsonrpc.REFUSED, error.message, {"reason": str(error.reason)})
        await self._end(refused.body(request_id))
        return str(error.reason)

    async def _end(self, message: Mapping[str, Any]) -> None:
        async with self._writing:
            if not self._reply.started:
                await self._reply.json(message)
                return
            await self._reply.pieces([sse.event("message", message)])
            await self._reply.end()

    async def _say_nothing(self) -> None:
        """A request that was cancelled has no answer, and its stream an end."""
        async with self._writing:
            if not self._streams and not self._reply.started:
                error = RpcError(jsonrpc.REFUSED, "the request was cancelled", {"reason": "CANCELLED"})
                await self._reply.json(error.body(self._request.request_id))
                return
            await self._reply.pieces([])
            await self._reply.end()

    async def _event(self, message: Mapping[str, Any]) -> None:
        async with self._writing:
            await self._reply.pieces([sse.event("message", message)])


def _progress_token(request: Request) -> str | int | None:
    meta = request.params.get("_meta")
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    return token if isinstance(token, str | int) and not isinstance(token, bool) else None


async def _outcome(work: Awaitable[Mapping[str, Any] | None]) -> Any:
    """Its failure as a result, so that it does not end those who wait beside it."""
    try:
        return await work
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - a supervisor: handed to who waits for it
        return error


async def left(receive: Receive) -> None:
    """Until the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
