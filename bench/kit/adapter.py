"""An adapter of the bench: one connection, events in, deliveries out, each of them acknowledged."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.kit.stack import Stack
from portway.clients.host import Portway
from portway.rpc.channel import open_channel
from portway.v1 import adapter_pb2, adapter_pb2_grpc, content_pb2, event_pb2, options_pb2, token_pb2

SURFACE = "bench"
ADAPTER_ID = "bench"
ANSWER_SECONDS = 60


class BenchAdapter:
    """Asks and waits for the answer. Any number of conversations at once, one question in each."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._frames: asyncio.Queue[adapter_pb2.ConnectRequest] = asyncio.Queue()
        self._waiting: dict[str, asyncio.Future[tuple[float, adapter_pb2.ConnectResponse]]] = {}
        self._asked = 0
        self.event_bytes = 0
        self.delivery_bytes = 0
        self.delivered = 0

    async def ask(self, conversation_id: str, text: str) -> tuple[float, str]:
        """Seconds from the event sent to the delivery received, and what the delivery says."""
        self._asked += 1
        request = _event(self._asked, conversation_id, text)
        self.event_bytes = self.event_bytes or request.ByteSize()
        waiting = self._waiting[conversation_id] = asyncio.get_running_loop().create_future()
        begun = time.perf_counter()
        self._frames.put_nowait(request)
        async with asyncio.timeout(ANSWER_SECONDS):
            arrived, response = await waiting
        parts = response.delivery.payload.message.parts
        return arrived - begun, "".join(part.text.text for part in parts)

    async def write(self) -> None:
        while True:
            await self._call.write(await self._frames.get())

    async def read(self) -> None:
        while True:
            response = await self._call.read()
            match response.WhichOneof("kind"):
                case "delivery":
                    self._deliver(response)
                case "ack" if response.ack.HasField("error"):
                    raise AssertionError(f"an event was refused: {response.ack.error.message}")
                case "drain" | "replaced":
                    raise AssertionError(f"the connection of the bench ended: {response}")

    def _deliver(self, response: adapter_pb2.ConnectResponse) -> None:
        arrived = time.perf_counter()
        delivery = response.delivery
        self.delivery_bytes = self.delivery_bytes or response.ByteSize()
        self.delivered += 1
        result = adapter_pb2.DeliveryResult(
            delivery_id=delivery.delivery_id,
            outcome=adapter_pb2.DELIVERY_OUTCOME_ACKNOWLEDGED,
            provider_message_id=delivery.delivery_id,
        )
        self._frames.put_nowait(adapter_pb2.ConnectRequest(result=result))
        waiting = self._waiting.pop(delivery.conversation_id, None)
        if waiting is None:
            raise AssertionError(f"a delivery came that nobody waits for: {delivery}")
        waiting.set_result((arrived, response))


@asynccontextmanager
async def connected(stack: Stack) -> AsyncIterator[BenchAdapter]:
    """With a token of its own."""
    async with Portway(stack.host, token=stack.token) as host:
        wanted = token_pb2.CreateTokenRequest(name="bench", role=options_pb2.ROLE_ADAPTER)
        token = (await host.tokens.CreateToken(wanted)).secret
    async with open_channel(stack.host, token=token) as channel:
        call: Any = adapter_pb2_grpc.AdapterServiceStub(channel).Connect()
        hello = adapter_pb2.AdapterHello(
            adapter_id=ADAPTER_ID,
            platform="bench",
            protocol_version=1,
            surfaces=[adapter_pb2.AdapterSurface(surface=SURFACE)],
        )
        await call.write(adapter_pb2.ConnectRequest(hello=hello))
        welcome = await call.read()
        if not welcome.HasField("welcome"):
            raise AssertionError(f"the host did not welcome the bench: {welcome}")
        adapter = BenchAdapter(call)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(adapter.write()), group.create_task(adapter.read())]
            yield adapter
            for task in tasks:
                task.cancel()


def _event(ref: int, conversation_id: str, text: str) -> adapter_pb2.ConnectRequest:
    event = event_pb2.Event(
        type="message.received",
        address=event_pb2.EventAddress(
            conversation_id=conversation_id, surface=SURFACE, launcher_type="person", launcher_id=conversation_id
        ),
        parts=[content_pb2.ContentPart(text=content_pb2.TextPart(text=text))],
    )
    submit = event_pb2.SubmitEventRequest(event=event, idempotency_key=uuid.uuid4().hex)
    return adapter_pb2.ConnectRequest(event=adapter_pb2.AdapterEvent(ref=ref, submit=submit))
