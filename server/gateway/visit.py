"""One request of a program, from its token to the line in its run's ledger."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from portway.rpc.errors import DeadlineExceeded, PortwayError
from portway.server.gateway.door import ONLY_RUN, Door
from portway.server.gateway.entering import Gone, Receive
from portway.server.gateway.reply import Reply, Send
from portway.server.gateway.shape import Refusal, Writer
from portway.server.runner_calls.pipeline import meaning_of
from portway.server.runner_calls.scope import RunScope, run_finished
from portway.v1 import usage_pb2

ENTRY = "MODEL_GATEWAY"


class Ledger(Protocol):
    """Where calls are recorded: the ledger of the run whose token it is."""

    def note(self, token_id: str, reason: str, summary: str) -> None:
        """One entry, unless the run has ended."""


@dataclass(slots=True)
class Visit:
    """What a request is about. `model_id` and `usage` are filled in on the way; `writer` once an answer is streamed."""

    run: RunScope
    body: Mapping[str, Any]
    reply: Reply
    model_id: str = ""
    usage: usage_pb2.Usage = field(default_factory=usage_pb2.Usage)
    writer: Writer | None = None


Work = Callable[[Visit], Awaitable[None]]
Refuse = Callable[[PortwayError], Refusal]


class Endpoint:
    """An ASGI application for one path. `work` answers, or raises by meaning."""

    def __init__(
        self, name: str, door: Door, ledger: Ledger, patience: float, made: Callable[[], tuple[Work, Refuse]]
    ) -> None:
        self._name = name
        self._door = door
        self._ledger = ledger
        self._patience = patience
        self._made = made

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        reply = Reply(send, self._patience)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        work, refuse = self._made()
        try:
            await self._admit(scope, headers, receive, reply, work)
        except Gone:
            return
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - a supervisor: the failure of a request is its answer
            await self._fail(reply, refuse, meaning_of(error, self._name))

    async def _fail(self, reply: Reply, refuse: Refuse, error: PortwayError) -> None:
        try:
            if not reply.started:
                await reply.refuse(refuse(error))
        except Gone:
            return

    async def _admit(
        self, scope: Mapping[str, Any], headers: Mapping[str, str], receive: Receive, reply: Reply, work: Work
    ) -> None:
        run, token_id = await self._door.run_of(headers, scope.get("state", {}).get(ONLY_RUN, ""))
        with self._door.inside(run):
            body, raw = ({}, b"") if scope["method"] == "GET" else await self._door.body(receive, headers)
            visit = Visit(run, body, reply)
            outcome = "ok"
            try:
                await self._attend(visit, work, receive)
            except Gone:
                outcome = "the program went away"
                raise
            except PortwayError as error:
                outcome = str(error.reason)
                raise
            except BaseException:
                outcome = "failed"
                raise
            finally:
                if raw:
                    self._ledger.note(token_id, ENTRY, self._told(visit, raw, outcome))

    async def _attend(self, visit: Visit, work: Work, receive: Receive) -> None:
        """Answer, unless the program goes away or the run ends before that."""
        run = visit.run
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(_outcome(work(visit)))
            leaving = group.create_task(_left(receive))
            ending = group.create_task(run.over.wait())
            waiting = {answering, leaving, ending}
            await asyncio.wait(waiting, timeout=run.time_left(), return_when=asyncio.FIRST_COMPLETED)
            done = answering.done()
            for task in waiting:
                task.cancel()
        if done:
            error = answering.result()
        elif leaving.done() and not leaving.cancelled():
            raise Gone
        elif run.over.is_set():
            error = run.ended or run_finished(run.run_id, "ended")
        else:
            error = DeadlineExceeded(f"the time of the run {run.run_id} is over")
        if error is None:
            return
        if visit.writer is not None and visit.reply.started and not visit.reply.ended:
            meaning = error if isinstance(error, PortwayError) else meaning_of(error, self._name)
            await visit.reply.pieces(visit.writer.broken(meaning))
            await visit.reply.end()
        raise error

    def _told(self, visit: Visit, raw: bytes, outcome: str) -> str:
        usage = visit.usage
        used = f"{usage.input_tokens}+{usage.output_tokens} tokens" if usage.HasField("input_tokens") else "no usage"
        digest = hashlib.sha256(raw).hexdigest()
        return f"{self._name} sha256:{digest} model {visit.model_id or '-'}, {used}: {outcome}"


async def _outcome(work: Awaitable[None]) -> BaseException | None:
    """Its failure as a result, so that it does not end those who wait beside it."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - handed to who waits for it
        return error
    return None


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
