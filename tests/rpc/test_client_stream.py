"""A server may end a stream while its client still writes: the client gets all that was said, and the end."""

import asyncio
from typing import Any

import grpc
import pytest

from portway.rpc.client_stream import half_close, send

ANSWERS = 50


async def _says_all_and_ends(_requests: object, context: Any) -> None:
    await context.read()
    for number in range(ANSWERS):
        await context.write(str(number).encode())


async def _reads_until_the_end(_requests: object, context: Any) -> None:
    count = 0
    while await context.read() is not grpc.aio.EOF:
        count += 1
    await context.write(str(count).encode())


@pytest.fixture
async def channel() -> Any:
    server = grpc.aio.server()
    handlers: Any = {
        "Ends": grpc.stream_stream_rpc_method_handler(_says_all_and_ends),
        "Reads": grpc.stream_stream_rpc_method_handler(_reads_until_the_end),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Streams", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


async def _rest(call: Any) -> list[bytes]:
    found = []
    while (answer := await call.read()) is not grpc.aio.EOF:
        found.append(answer)
    return found


async def test_nothing_is_lost_when_the_server_ends_first(channel: Any) -> None:
    for _ in range(50):
        call = channel.stream_stream("/test.Streams/Ends")()
        sent = 0
        while await send(call, b"x" * 1000):
            sent += 1
        assert sent >= 1
        assert len(await _rest(call)) == ANSWERS
        assert await call.code() is grpc.StatusCode.OK


async def test_a_client_that_ends_first_gets_its_answer(channel: Any) -> None:
    call = channel.stream_stream("/test.Streams/Reads")()
    for _ in range(3):
        assert await send(call, b"x")
    await half_close(call)
    assert await _rest(call) == [b"3"]
    assert not await send(call, b"late")
    await half_close(call)


async def test_the_librarys_own_write_would_lose_the_end(channel: Any) -> None:
    """Should this fail one day, `client_stream` is no longer needed."""
    lost = 0
    for _ in range(50):
        call = channel.stream_stream("/test.Streams/Ends")()
        try:
            while True:
                await call.write(b"x" * 1000)
        except grpc.aio.AioRpcError as error:
            lost += error.code() is grpc.StatusCode.INTERNAL
        except asyncio.InvalidStateError:
            # The end was known before the write began: that much the library does well.
            pass
        call.cancel()
    assert lost > 0
