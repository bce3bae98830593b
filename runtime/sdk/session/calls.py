"""The calls of a run: many at once over one stream, each found again by its id."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.message import Message

from portway.rpc.call_errors import from_call_error
from portway.rpc.errors import DeadlineExceeded, LimitExceeded, PayloadTooLarge, PortwayError, Unavailable
from portway.runtime.sdk.session.clock import RunClock
from portway.runtime.sdk.session.outbox import Outbox
from portway.v1 import run_agent_pb2, run_call_pb2

MAX_CALLS = 256
# Below the 4 MiB of a message, with room for what surrounds it.
MAX_CALL_BYTES = 4 * 1024 * 1024 - 1024
# What may wait for a runner that reads an answer slower than the host sends it.
MAX_WAITING_BYTES = 16 * 1024 * 1024


class _Call:
    """One call under way and the answers that nobody has read yet."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.changed = asyncio.Event()
        self.sent = False
        self.done = False
        self.error: PortwayError | None = None
        self._answers: deque[Any] = deque()
        self._waiting = 0

    def add(self, answer: run_call_pb2.RunAnswer) -> None:
        if answer.HasField("error"):
            self.fail(from_call_error(answer.error))
            return
        kind = answer.WhichOneof("kind")
        if kind == self.kind:
            self._keep(getattr(answer, kind))
        self.done = self.done or not answer.more
        self.changed.set()

    def _keep(self, message: Any) -> None:
        size = message.ByteSize()
        if self._waiting + size <= MAX_WAITING_BYTES:
            self._answers.append(message)
            self._waiting += size
        elif self.kind != "call_tool" or message.HasField("result"):
            self.fail(
                LimitExceeded(f"{self.kind}: the answers came faster than the runner read them; read them at once")
            )
        # A tool's partial output is provisional: what does not fit is left out, and the result stays.

    def fail(self, error: PortwayError) -> None:
        self.error, self.done = self.error or error, True
        self.changed.set()

    def take(self) -> Any | None:
        """The next answer, None where there is none for now. Raises the call's error after the last answer."""
        if self._answers:
            message = self._answers.popleft()
            self._waiting -= message.ByteSize()
            return message
        if self.error is not None:
            raise self.error
        return None


class Conversation:
    """A call both of whose sides go on. `more` says that further requests follow."""

    def __init__(
        self, send: Callable[[Message, bool], Awaitable[None]], answers: Callable[[], AsyncIterator[Any]]
    ) -> None:
        self._send = send
        self.answers = answers

    async def send(self, request: Message, *, more: bool) -> None:
        """Waits while much is on its way. After the last answer it does nothing."""
        await self._send(request, more)


class Calls:
    """Asks the host. Kinds are the field names of `RunCall`."""

    def __init__(self, outbox: Outbox, clock: RunClock) -> None:
        self._outbox = outbox
        self._clock = clock
        self._calls: dict[int, _Call] = {}
        self._last_id = 0
        self._closed: PortwayError | None = None
        self._awaited: set[str] = set()
        self._slots = asyncio.Semaphore(MAX_CALLS)

    def on_answer(self, answer: run_call_pb2.RunAnswer) -> None:
        """An answer to a call that is not under way any more is left alone."""
        call = self._calls.get(answer.call_id)
        if call is not None:
            call.add(answer)

    def pause(self, approval_id: str, pending: bool) -> None:
        """An approval is waited for, or decided: the run's time stands still until none is waited for."""
        if pending:
            self._awaited.add(approval_id)
            self._clock.pause()
        else:
            self._awaited.discard(approval_id)
            if not self._awaited:
                self._clock.resume()
        for call in self._calls.values():
            call.changed.set()

    def close(self) -> None:
        """The host answers no more."""
        self._closed = Unavailable("the host ended the run's stream; nothing more can be asked")
        for call in self._calls.values():
            if not call.done:
                call.fail(self._closed)

    async def ask(self, kind: str, request: Message) -> Any:
        """The only answer to a call."""
        async with self._call(kind) as (call_id, call):
            self._send(call_id, kind, request, more=False)
            return await self._only(call)

    async def stream(self, kind: str, request: Message) -> AsyncIterator[Any]:
        """The answers to a call. Leaving before the last one cancels the call at the host."""
        async with self._call(kind) as (call_id, call):
            self._send(call_id, kind, request, more=False)
            while (answer := await self._next(call)) is not None:
                yield answer

    async def upload(self, kind: str, requests: AsyncIterable[Message]) -> Any:
        """The answer to a call whose request comes in pieces, at least one."""
        async with self._call(kind) as (call_id, call):
            last: Message | None = None
            async for request in requests:
                if last is not None and not call.done:
                    self._send(call_id, kind, last, more=True)
                    await self._outbox.room()
                last = request
            if last is not None and not call.done:
                self._send(call_id, kind, last, more=False)
            return await self._only(call)

    @asynccontextmanager
    async def converse(self, kind: str) -> AsyncIterator["Conversation"]:
        """A call that goes both ways. Leaving before the last answer cancels it at the host."""
        async with self._call(kind) as (call_id, call):

            async def send(request: Message, more: bool) -> None:
                if not call.done:
                    self._send(call_id, kind, request, more=more)
                    await self._outbox.room()

            async def answers() -> AsyncIterator[Any]:
                while (answer := await self._next(call)) is not None:
                    yield answer

            yield Conversation(send, answers)

    @asynccontextmanager
    async def _call(self, kind: str) -> AsyncIterator[tuple[int, _Call]]:
        async with self._slots:
            if self._closed is not None:
                raise self._closed
            await self._outbox.room()
            self._last_id += 1
            call_id = self._last_id
            call = self._calls[call_id] = _Call(kind)
            try:
                yield call_id, call
            finally:
                del self._calls[call_id]
                if call.sent and not call.done and self._closed is None:
                    self._cancel(call_id)

    async def _only(self, call: _Call) -> Any:
        answer = await self._next(call)
        if answer is None:
            raise Unavailable(f"{call.kind}: the host ended the call without an answer")
        return answer

    def _send(self, call_id: int, kind: str, request: Message, *, more: bool) -> None:
        frame = run_agent_pb2.RunOutputFrame()
        frame.call.call_id = call_id
        frame.call.more = more
        inner = getattr(frame.call, kind)
        inner.SetInParent()
        inner.CopyFrom(request)
        raw = frame.SerializeToString()
        if len(raw) > MAX_CALL_BYTES:
            raise PayloadTooLarge(
                f"{kind}: the request has {len(raw):,} bytes, and {MAX_CALL_BYTES:,} fit into one message; send less"
            )
        self._calls[call_id].sent = True
        self._outbox.put(raw, urgent=True)

    async def _next(self, call: _Call) -> Any | None:
        """The next answer, None after the last."""
        while (answer := call.take()) is None and not call.done:
            call.changed.clear()
            remaining = self._clock.remaining()
            if remaining is not None and remaining <= 0:
                raise DeadlineExceeded(f"{call.kind}: the run's time is over")
            try:
                async with asyncio.timeout(remaining):
                    await call.changed.wait()
            except TimeoutError:
                # The clock may have been stopped meanwhile: it is asked again.
                continue
        return answer

    def _cancel(self, call_id: int) -> None:
        frame = run_agent_pb2.RunOutputFrame()
        frame.call.call_id = call_id
        frame.call.cancel = True
        self._outbox.put(frame.SerializeToString(), urgent=True)
