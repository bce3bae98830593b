"""The same clients for scripts without asyncio: a loop in a thread of its own, calls that wait."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from portway.clients.host import Accepted, Finished, Portway
from portway.clients.run_view import Change
from portway.v1 import conversation_pb2, run_pb2, status_pb2

Value = TypeVar("Value")
_JOIN_SECONDS = 5.0


class BlockingPortway:
    """A connection to one host. Use it as `with BlockingPortway("127.0.0.1:7700", token=…) as host`."""

    def __init__(self, address: str, *, token: str) -> None:
        self._address = address
        self._token = token
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="portway-client", daemon=True)
        self._host: Portway | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._host = self._wait(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait(self._connected.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_JOIN_SECONDS)
        self._loop.close()

    def send(self, text: str, *, conversation_id: str = "", agent_id: str = "", idempotency_key: str = "") -> Accepted:
        """Hand a message over without waiting for its answer."""
        return self._wait(
            self._connected.send(
                text, conversation_id=conversation_id, agent_id=agent_id, idempotency_key=idempotency_key
            )
        )

    def chat(
        self, text: str, *, conversation_id: str = "", agent_id: str = ""
    ) -> Iterator[Accepted | Change | Finished]:
        """Say something and get the answer while it is written."""
        stream = self._connected.chat(text, conversation_id=conversation_id, agent_id=agent_id)
        try:
            while True:
                try:
                    yield self._wait(_next(stream))
                except StopAsyncIteration:
                    return
        finally:
            self._wait(_close(stream))

    def history(
        self, conversation_id: str, *, before: str = "", limit: int = 50
    ) -> conversation_pb2.ListMessagesResponse:
        """A page of a conversation in order of time."""
        return self._wait(self._connected.history(conversation_id, before=before, limit=limit))

    def run(self, run_id: str) -> run_pb2.Run:
        return self._wait(self._connected.runs.get(run_id))

    def cancel(self, run_id: str, reason: str = "") -> run_pb2.CancelRunResponse:
        return self._wait(self._connected.runs.cancel(run_id, reason))

    def status(self) -> status_pb2.GetStatusResponse:
        return self._wait(self._connected.status())

    @property
    def _connected(self) -> Portway:
        if self._host is None:
            raise RuntimeError("use it as `with BlockingPortway(…) as host`")
        return self._host

    async def _open(self) -> Portway:
        # In the loop's own thread: a channel belongs to the loop in which it was made.
        return Portway(self._address, token=self._token)

    def _wait(self, work: Coroutine[Any, Any, Value]) -> Value:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _next(stream: AsyncIterator[Value]) -> Value:
    return await anext(stream)


async def _close(stream: AsyncIterator[Any]) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
