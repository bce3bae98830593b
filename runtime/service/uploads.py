"""Zips of plugins as they come over the wire: so many at once, and none that stalls."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from portway.rpc.call import Call
from portway.rpc.errors import DeadlineExceeded, InvalidInput, Reason
from portway.rpc.limits import Slots
from portway.runtime.installed.install import Installer, Wanted
from portway.runtime.installed.receive import IncomingZip
from portway.runtime.installed.versions import Outcome
from portway.runtime.waiting import to_the_end
from portway.v1 import runtime_pb2 as pb

IDLE_SECONDS = 30.0
WHOLE_SECONDS = 900.0
T = TypeVar("T")

Upload = Call[pb.InstallPluginRequest, None]


class Uploads:
    """`at_once` are worked on, `waiting` more may wait; the others are refused."""

    def __init__(self, installer: Installer, at_once: int, waiting: int) -> None:
        self._installer = installer
        self._slots = Slots(at_once + waiting, "installations of plugins")
        self._turns = asyncio.Semaphore(at_once)

    async def install(self, call: Upload) -> Outcome:
        wanted = _wanted(await _next(call))
        if (known := self._installer.known(wanted)) is not None:
            return known
        self._slots.enter()
        try:
            async with self._turns:
                return await self._take(call, wanted)
        finally:
            self._slots.leave()

    async def _take(self, call: Upload, wanted: Wanted) -> Outcome:
        incoming = self._installer.incoming(wanted)
        try:
            await to_the_end(asyncio.to_thread(incoming.open, self._installer.reserve))
            await _in_time(_receive(call, incoming), WHOLE_SECONDS)
            return await self._installer.install(incoming, wanted)
        finally:
            await to_the_end(asyncio.to_thread(incoming.discard))


async def _receive(call: Upload, incoming: IncomingZip) -> None:
    while (frame := await _next(call)) is not None:
        kind = frame.WhichOneof("kind")
        if kind == "chunk":
            await to_the_end(asyncio.to_thread(incoming.add, frame.chunk.data, frame.chunk.offset))
        elif kind == "data":
            await to_the_end(asyncio.to_thread(incoming.add, frame.data))
        else:
            raise InvalidInput("after `start` only `chunk` or `data` follows", reason=Reason.UNEXPECTED_FRAME)
    await to_the_end(asyncio.to_thread(incoming.finish))


async def _next(call: Upload) -> pb.InstallPluginRequest | None:
    return await _in_time(call.read(), IDLE_SECONDS)


async def _in_time(work: Awaitable[T], seconds: float) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise DeadlineExceeded(f"the plugin did not arrive within {seconds:g} s; send it again") from None


def _wanted(first: pb.InstallPluginRequest | None) -> Wanted:
    if first is None or first.WhichOneof("kind") != "start":
        raise InvalidInput("the first frame of an installation is `start`", reason=Reason.UNEXPECTED_FRAME)
    start = first.start
    if start.request_id and not start.digest:
        raise InvalidInput.field("start.digest", "is needed with a request_id: it tells whether both were the same")
    if start.HasField("signature") and not start.signature.key_id:
        raise InvalidInput.field("start.signature.key_id", "is missing; it is in the file that `plugin sign` wrote")
    return Wanted(
        force=start.force,
        allow_downgrade=start.allow_downgrade,
        grant=start.grant_permissions,
        size=start.size,
        digest=start.digest,
        request_id=start.request_id,
        key_id=start.signature.key_id,
        signature=start.signature.value,
    )
