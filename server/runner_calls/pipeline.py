"""Many calls at once on one stream: each in a task of its own, bounded, answered as each is done."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from portway.rpc.call_errors import to_call_error
from portway.rpc.errors import (
    Cancelled,
    Conflict,
    DeadlineExceeded,
    InternalError,
    InvalidInput,
    LimitExceeded,
    NotAvailable,
    PortwayError,
    Reason,
)
from portway.rpc.ids import new_id
from portway.rpc.telemetry import safe_text
from portway.rpc.validation import check
from portway.server.runner_calls.operations import Operation, Shape
from portway.v1 import run_call_pb2

CONCURRENT_CALLS = 64
WAITING_CALLS = 1024
UPLOAD_FRAMES = 16
# Input of a program: the contract's 1 MiB, and what frames add to it.
INPUT_FRAMES = 4096
INPUT_BYTES = 1024 * 1024 + 32 * INPUT_FRAMES


class Asker(Protocol):
    """Who asks: a run, or a component. Handlers get it first."""

    def check_alive(self) -> None:
        """Raises where nothing can be asked any more."""


class Answers(Protocol):
    """Where answers go."""

    def answer(self, answer: run_call_pb2.RunAnswer) -> None:
        """Queue an answer; never waits."""

    async def room(self) -> None:
        """Wait while the other side reads too slowly."""


@dataclass(slots=True, eq=False)
class _Under:
    """One call under way: its task once it has begun, and the further frames of an upload that wait to be read."""

    call_id: int
    name: str
    first: run_call_pb2.RunCall
    frames: "asyncio.Queue[Any]"
    waiting_bytes: int = 0
    task: asyncio.Task[None] | None = None
    failed: PortwayError | None = None


class Pipeline:
    """The calls of one stream. Tasks belong to `group`, whose owner ends them all with the stream."""

    def __init__(
        self,
        run: Asker,
        operations: Mapping[str, Operation],
        answers: Answers,
        group: asyncio.TaskGroup,
        ready: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._run = run
        self._operations = operations
        self._answers = answers
        self._group = group
        self._ready = ready
        self._calls: dict[int, _Under] = {}
        self._waiting: deque[_Under] = deque()
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def under_way(self) -> list[tuple[int, str]]:
        """Calls that have begun and not ended: their ids and names."""
        return [(under.call_id, under.name) for under in self._calls.values() if under.task is not None]

    async def drained(self) -> None:
        """Wait until no call is under way: the other side asks nothing more and still wants its answers."""
        await self._idle.wait()

    def close(self) -> None:
        """The stream has ended: nobody hears an answer any more."""
        self._waiting.clear()
        for under in list(self._calls.values()):
            if under.task is not None:
                under.task.cancel()

    async def take(self, call: run_call_pb2.RunCall) -> None:
        """One frame of a call. Waits only where an upload is sent faster than it is kept."""
        under = self._calls.get(call.call_id)
        if call.cancel:
            self._cancel(under)
            return
        name = call.WhichOneof("kind") or ""
        if under is not None:
            await self._continue(under, call, name)
            return
        operation = self._operations.get(name)
        if operation is None:
            known = name in run_call_pb2.RunCall.DESCRIPTOR.fields_by_name
            refusal: PortwayError = InvalidInput.field("kind", "the call says not what is asked")
            self._refuse(call.call_id, NotAvailable("not available in this version") if known and name else refusal)
            return
        if call.more and operation.shape not in (Shape.UPLOAD, Shape.BOTH):
            self._refuse(call.call_id, InvalidInput.field("more", f"{name} takes one request"))
            return
        if len(self._waiting) >= WAITING_CALLS:
            self._refuse(
                call.call_id,
                LimitExceeded(
                    f"{WAITING_CALLS} calls of the run wait already", reason=Reason.OVERLOADED, retry_after=0.1
                ),
            )
            return
        under = self._calls[call.call_id] = _Under(
            call.call_id, name, call, asyncio.Queue(INPUT_FRAMES if operation.shape is Shape.BOTH else UPLOAD_FRAMES)
        )
        self._idle.clear()
        self._waiting.append(under)
        self._begin()

    async def _continue(self, under: _Under, call: run_call_pb2.RunCall, name: str) -> None:
        size = call.ByteSize()
        if under.name != name or not under.first.more:
            self._refuse(call.call_id, Conflict(f"the call {call.call_id} is under way; use a new id"))
        elif self._operations[name].shape is Shape.BOTH and (
            under.frames.full() or under.waiting_bytes + size > INPUT_BYTES
        ):
            # A program that does not read its input must not hold up the other calls of the run.
            error = LimitExceeded("more input is under way than the program takes; wait for `taken_bytes`")
            under.failed = error
            self._cancel(under)
        elif under.task is None and under.frames.full():
            # To wait for a call that has not begun could hold up those that have.
            self._cancel(under)
        else:
            under.waiting_bytes += size
            await under.frames.put((getattr(call, name), call.more, size))

    def _begin(self) -> None:
        while self._waiting and self._active < CONCURRENT_CALLS:
            under = self._waiting.popleft()
            self._active += 1
            under.task = self._group.create_task(self._serve(under))

    def _cancel(self, under: _Under | None) -> None:
        if under is None:
            return
        if under.task is not None:
            under.task.cancel()
            return
        self._waiting.remove(under)
        del self._calls[under.call_id]
        self._refuse(under.call_id, Cancelled("the call was cancelled before it began"))

    def _refuse(self, call_id: int, error: PortwayError) -> None:
        self._answers.answer(run_call_pb2.RunAnswer(call_id=call_id, error=to_call_error(error)))

    async def _serve(self, under: _Under) -> None:
        try:
            await self._answer(under)
        except asyncio.CancelledError:
            self._refuse(under.call_id, under.failed or Cancelled("the call was cancelled"))
        except BaseException as error:  # noqa: BLE001 - a supervisor: the failure of a call is its answer
            self._refuse(under.call_id, meaning_of(error, under.name))
        finally:
            self._calls.pop(under.call_id, None)
            self._active -= 1
            self._begin()
            if not self._calls:
                self._idle.set()

    async def _answer(self, under: _Under) -> None:
        if self._ready is not None:
            await self._ready()
        self._run.check_alive()
        name, operation = under.name, self._operations[under.name]
        request = getattr(under.first, name)
        check(request)
        if operation.shape is Shape.ONE:
            self._send(under, await operation.handler(self._run, request), last=True)
        elif operation.shape is Shape.UPLOAD:
            self._send(under, await operation.handler(self._run, self._frames(under, request)), last=True)
        else:
            ended = False

            async def emit(response: Any, last: bool = False) -> None:
                nonlocal ended
                ended = last
                self._send(under, response, last)
                if not last:
                    await self._answers.room()

            if operation.shape is Shape.BOTH:
                await operation.handler(self._run, self._frames(under, request), emit)
            else:
                await operation.handler(self._run, request, emit)
            if not ended:
                self._answers.answer(run_call_pb2.RunAnswer(call_id=under.call_id))

    def _send(self, under: _Under, response: Any, last: bool) -> None:
        answer = run_call_pb2.RunAnswer(call_id=under.call_id, more=not last)
        target = getattr(answer, under.name)
        target.SetInParent()
        target.MergeFrom(response)
        self._answers.answer(answer)

    async def _frames(self, under: _Under, first: Any) -> AsyncIterator[Any]:
        yield first
        more = under.first.more
        while more:
            frame, more, size = await under.frames.get()
            under.waiting_bytes -= size
            check(frame)
            yield frame


def meaning_of(error: BaseException, name: str) -> PortwayError:
    """What the unary method would have answered. A bug is logged and told by its id alone."""
    causes = list(_leaves(error))
    meanings = [cause for cause in causes if isinstance(cause, PortwayError)]
    if meanings and len(meanings) == len(causes):
        return next((one for one in meanings if not isinstance(one, Cancelled)), meanings[0])
    if causes and all(isinstance(cause, TimeoutError | PortwayError) for cause in causes):
        return DeadlineExceeded("the time of the call is over")
    error_id = new_id("err")
    structlog.get_logger("portway.host.calls").error(
        "bug in a handler", error_id=error_id, call=name, error=safe_text(error), exc_info=error
    )
    return InternalError(f"an internal error happened; the server's log has it as {error_id}")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
