"""What is to be written on the connection besides events, and what has to be written again on the next one."""

import asyncio
import time
from collections import OrderedDict, deque

from portway.adapters.kit.follow import Follower
from portway.adapters.kit.outbox import EventOutbox
from portway.adapters.kit.types import Outcome
from portway.adapters.kit.wire import result_of
from portway.rpc.errors import PortwayError, Unavailable
from portway.v1 import adapter_pb2

RECENT_RESULTS = 500
RESULT_DOUBT = 60.0
"""Seconds after which a result that was written has certainly arrived: a dead connection is noticed sooner."""
MAX_KEPT = 1024


class Outgoing:
    """The writing side: bounded by what it holds, not by time. `wake` is set when there is something to write."""

    def __init__(self) -> None:
        self.events = EventOutbox()
        self.wake = asyncio.Event()
        self._now: deque[adapter_pb2.ConnectRequest] = deque()
        self._recent: OrderedDict[str, tuple[float, adapter_pb2.DeliveryResult]] = OrderedDict()
        self.runs = Follower(self._ask)
        self._kept: dict[str, tuple[int, str, asyncio.Future[None]]] = {}
        self._last_ref = 0

    def begin(self, hello: adapter_pb2.AdapterHello) -> adapter_pb2.ConnectRequest:
        """The first frame of a connection; everything that the host may not have got follows it."""
        self._now.clear()
        self.events.rewind()
        first = adapter_pb2.AdapterHello()
        first.CopyFrom(hello)
        oldest = time.monotonic() - RESULT_DOUBT
        first.recent_results.extend(result for when, result in self._recent.values() if when > oldest)
        for run_id, after in list(self.runs):
            self._ask(run_id, after)
        for name, (ref, value, _) in self._kept.items():
            self._push(cursor=adapter_pb2.AdapterCursorSaved(name=name, value=value, ref=ref))
        self.wake.set()
        return adapter_pb2.ConnectRequest(hello=first)

    def take(self) -> adapter_pb2.ConnectRequest | None:
        """The next frame that is not an event; None when there is none."""
        return self._now.popleft() if self._now else None

    def result(self, outcome: Outcome) -> None:
        result = result_of(outcome)
        self._recent[outcome.delivery_id] = (time.monotonic(), result)
        self._recent.move_to_end(outcome.delivery_id)
        if len(self._recent) > RECENT_RESULTS:
            self._recent.popitem(last=False)
        self._push(result=result)

    def unwatch(self, run_id: str) -> None:
        if self.runs.forget(run_id):
            self._push(watch=adapter_pb2.AdapterWatch(run_id=run_id, stop=True))

    def keep(self, name: str, value: str) -> asyncio.Future[None]:
        """A value for the host to keep; the future is done when it is on disk. A newer value takes the place of one
        that still waits."""
        older = self._kept.pop(name, None)
        if older is None and len(self._kept) >= MAX_KEPT:
            raise Unavailable(f"{MAX_KEPT} values wait for the host to keep them", retry_after=1.0)
        self._last_ref += 1
        future = older[2] if older is not None else asyncio.get_running_loop().create_future()
        self._kept[name] = (self._last_ref, value, future)
        self._push(cursor=adapter_pb2.AdapterCursorSaved(name=name, value=value, ref=self._last_ref))
        return future

    def kept(self, ref: int, error: PortwayError | None) -> None:
        name = next((name for name, (waiting, _, _) in self._kept.items() if waiting == ref), None)
        if name is None:
            return
        _, _, future = self._kept.pop(name)
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
            future.exception()

    @property
    def empty(self) -> bool:
        return not self._now and not self._kept and not len(self.events)

    def _ask(self, run_id: str, after: int) -> None:
        self._push(watch=adapter_pb2.AdapterWatch(run_id=run_id, after_sequence=after))

    def _push(self, **kind: object) -> None:
        self._now.append(adapter_pb2.ConnectRequest(**kind))  # type: ignore[arg-type]
        self.wake.set()
