"""An adapter as the host sees it: a gRPC client of AdapterService.Connect that does nothing on its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from portway.rpc.channel import open_channel
from portway.rpc.status import errors_by_meaning
from portway.v1 import adapter_pb2, content_pb2, event_pb2
from portway.v1.adapter_pb2_grpc import AdapterServiceStub
from tests.waiting import PATIENCE


class AdapterClient:
    """One connection. `next("delivery")` is the next frame of a kind; frames of other kinds are kept for later."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._kept: list[adapter_pb2.ConnectResponse] = []
        self._ref = 0

    async def send(self, **frame: Any) -> None:
        await self._stream.write(adapter_pb2.ConnectRequest(**frame))

    async def next(self, kind: str) -> Any:
        for index, frame in enumerate(self._kept):
            if frame.WhichOneof("kind") == kind:
                return getattr(self._kept.pop(index), kind)
        async with asyncio.timeout(PATIENCE):
            while True:
                with errors_by_meaning():
                    frame = await self._stream.read()
                assert frame is not grpc.aio.EOF, f"the stream ended before {kind}"
                if frame.WhichOneof("kind") == kind:
                    return getattr(frame, kind)
                self._kept.append(frame)

    async def rest(self) -> list[adapter_pb2.ConnectResponse]:
        """What is still written until the host ends the stream. Raises how it ended, if badly."""
        frames = self._kept
        self._kept = []
        async with asyncio.timeout(PATIENCE):
            with errors_by_meaning():
                while (frame := await self._stream.read()) is not grpc.aio.EOF:
                    frames.append(frame)
        return frames

    async def hello(self, adapter_id: str = "web_chat", **more: Any) -> adapter_pb2.AdapterWelcome:
        surfaces = more.pop("surfaces", [adapter_pb2.AdapterSurface(surface="web_chat")])
        greeting = adapter_pb2.AdapterHello(
            adapter_id=adapter_id,
            platform=more.pop("platform", "web_chat"),
            version="1",
            protocol_version=more.pop("protocol_version", 1),
            surfaces=surfaces,
            **more,
        )
        await self.send(hello=greeting)
        welcome: adapter_pb2.AdapterWelcome = await self.next("welcome")
        return welcome

    async def submit(self, text: str, *, key: str, chat: str = "ada", **more: Any) -> int:
        """Submits a message; answers its ref."""
        self._ref += 1
        event = event_pb2.Event(
            type="message.received",
            address=event_pb2.EventAddress(
                surface="web_chat",
                launcher_type="person",
                launcher_id=chat,
                conversation_id=more.pop("conversation", ""),
            ),
            parts=[content_pb2.ContentPart(text=content_pb2.TextPart(text=text))],
        )
        request = event_pb2.SubmitEventRequest(event=event, idempotency_key=key)
        traceparent = more.pop("traceparent", "")
        await self.send(event=adapter_pb2.AdapterEvent(ref=self._ref, submit=request, traceparent=traceparent))
        return self._ref

    async def tell(
        self,
        delivery_id: str,
        outcome: "adapter_pb2.DeliveryOutcome.ValueType" = adapter_pb2.DELIVERY_OUTCOME_ACKNOWLEDGED,
        **more: Any,
    ) -> None:
        await self.send(result=adapter_pb2.DeliveryResult(delivery_id=delivery_id, outcome=outcome, **more))

    async def leave(self) -> list[adapter_pb2.ConnectResponse]:
        """A good end: the host ends the stream too. Answers what nobody has asked for."""
        await self._stream.done_writing()
        return await self.rest()

    def cut(self) -> None:
        """As if the machine had lost its power."""
        self._stream.cancel()


@asynccontextmanager
async def an_adapter(address: str, token: str) -> AsyncIterator[AdapterClient]:
    """A new connection, before its hello."""
    async with open_channel(address, token=token) as channel:
        stream = AdapterServiceStub(channel).Connect()
        client = AdapterClient(stream)
        yield client
        client.cut()
