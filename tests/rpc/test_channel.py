"""How a client's channel connects."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from portway.rpc.channel import open_channel
from tests.rpc.contract import EchoMessage
from tests.rpc.echo_server import MEMBER, Stub, echo_server

LATE_SECONDS = 0.4


class SlowServer:
    """Passes a connection on to a server, but the server's first word arrives late."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self.connections = 0
        self.second = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.connections > 1:
            self.second.set()
        from_server, to_server = await asyncio.open_connection(self._host, self._port)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pass_on(reader, to_server))
            # Ends early when the client lost its patience and dials again.
            with suppress(TimeoutError):
                await asyncio.wait_for(self.second.wait(), LATE_SECONDS)
            await _pass_on(from_server, writer)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def slow_server(address: str) -> AsyncIterator[tuple[SlowServer, str]]:
    slow = SlowServer(address)
    server = await asyncio.start_server(slow.serve, "127.0.0.1", 0)
    async with server:
        yield slow, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_server_that_is_slow_to_greet_is_waited_for() -> None:
    async with echo_server() as echo, slow_server(echo.server.address) as (slow, address):
        async with open_channel(address, token=MEMBER.text) as channel:
            answer = await Stub(channel).method("Say")(EchoMessage(text="hi"), timeout=20)
        assert answer.text == "hi"
        assert slow.connections == 1
