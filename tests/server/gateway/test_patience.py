"""Connections that never come to a request do not hold a place for ever."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from portway.server.http.listener import HttpLimits, bound, serve_http

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
REQUEST = b"GET /app/ HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def slow_answer(scope: Any, receive: Any, send: Send) -> None:
    """Takes longer than a head may."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await asyncio.sleep(0.5)
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize("begun", [b"", b"GET /app/ HT", REQUEST[:-2]])
async def test_a_head_that_does_not_come_ends_its_connection(begun: bytes) -> None:
    with bound("127.0.0.1:0", None) as (listening, url):
        async with serve_http(listening, url, {"/app": slow_answer}, None, HttpLimits(head_seconds=0.2)):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(begun)
            assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()


async def test_an_answer_may_take_longer_than_a_head() -> None:
    with bound("127.0.0.1:0", None) as (listening, url):
        async with serve_http(listening, url, {"/app": slow_answer}, None, HttpLimits(head_seconds=0.2)):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            for _ in range(2):
                writer.write(REQUEST[:10])
                await writer.drain()
                writer.write(REQUEST[10:])
                assert (await asyncio.wait_for(reader.readuntil(b"ok"), 20)).startswith(b"HTTP/1.1 200")
            writer.close()
