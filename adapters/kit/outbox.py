"""Events on their way to the host: kept until the host has them on disk, sent again with the same key until then."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from portway.adapters.kit.types import Accepted
from portway.rpc.errors import Conflict, LimitExceeded, PayloadTooLarge, PortwayError, Quota, Reason
from portway.rpc.telemetry import Trace, current_trace
from portway.v1 import adapter_pb2, event_pb2

MAX_EVENTS = 1000
MAX_BYTES = 16 * 1024 * 1024
MAX_EVENT_BYTES = 3 * 1024 * 1024
_RETRY_PAUSE = 2.0


@dataclass(slots=True)
class _Waiting:
    ref: int
    body: bytes
    answer: asyncio.Future[Accepted]
    traceparent: str
    sent: bool = False


class EventOutbox:
    """Bounded; what does not fit is refused to whoever submits it, who still has it and can come again."""

    def __init__(self, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._by_key: OrderedDict[str, _Waiting] = OrderedDict()
        self._by_ref: dict[int, str] = {}
        self._bytes = 0
        self._last_ref = 0

    def __len__(self) -> int:
        return len(self._by_key)

    def add(self, submit: event_pb2.SubmitEventRequest) -> asyncio.Future[Accepted]:
        """Takes an event; the future gives what the host answers. The same event again waits for the same answer."""
        body = submit.SerializeToString(deterministic=True)
        waiting = self._by_key.get(submit.idempotency_key)
        if waiting is not None:
            if waiting.body != body:
                raise Conflict(
                    f"another event with key {submit.idempotency_key!r} is on its way",
                    reason=Reason.SAME_KEY_OTHER_BODY,
                )
            return waiting.answer
        self._check_room(len(body))
        self._last_ref += 1
        answer: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        trace = current_trace.get() or Trace()
        self._by_key[submit.idempotency_key] = _Waiting(self._last_ref, body, answer, trace.traceparent())
        self._by_ref[self._last_ref] = submit.idempotency_key
        self._bytes += len(body)
        return answer

    def _check_room(self, size: int) -> None:
        if size > MAX_EVENT_BYTES:
            raise PayloadTooLarge(f"the event has {size} bytes, more than the {MAX_EVENT_BYTES} that one may have")
        if len(self._by_key) >= self._max_events or self._bytes + size > self._max_bytes:
            raise LimitExceeded(
                f"{len(self._by_key)} events wait already: the host is not reachable or too slow; try again later",
                reason=Reason.OVERLOADED,
                retry_after=_RETRY_PAUSE,
                quota=Quota("adapter outbox", f"at most {self._max_events} events and {self._max_bytes} bytes"),
            )

    def rewind(self) -> None:
        """A new connection: everything without an answer is to be sent again, in the old order."""
        for waiting in self._by_key.values():
            waiting.sent = False

    def frames(self) -> Iterator[adapter_pb2.ConnectRequest]:
        """What is to be sent now. Ends when everything was."""
        for waiting in list(self._by_key.values()):
            if not waiting.sent:
                waiting.sent = True
                submit = event_pb2.SubmitEventRequest.FromString(waiting.body)
                event = adapter_pb2.AdapterEvent(ref=waiting.ref, submit=submit, traceparent=waiting.traceparent)
                yield adapter_pb2.ConnectRequest(event=event)

    def accepted(self, ref: int, accepted: Accepted) -> None:
        waiting = self._take(ref)
        if waiting is not None and not waiting.answer.done():
            waiting.answer.set_result(accepted)

    def refused(self, ref: int, error: PortwayError) -> None:
        """The host's no goes to whoever submitted: only they know whether to come again."""
        waiting = self._take(ref)
        if waiting is not None and not waiting.answer.done():
            waiting.answer.set_exception(error)
            # Whoever asked may be gone; an answer that nobody reads is no error.
            waiting.answer.exception()

    def _take(self, ref: int) -> _Waiting | None:
        key = self._by_ref.pop(ref, None)
        if key is None:
            return None
        waiting = self._by_key.pop(key)
        self._bytes -= len(waiting.body)
        return waiting
