"""The client keeps the policy on the wire: resolved addresses, redirects, sizes and times."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx2
import pytest

from portway.rpc.addresses import Address, literal
from portway.rpc.errors import NotPermitted
from portway.server.outbound.client import AnswerTooLarge, ClientOptions, OutboundRefused, open_client, refusal_in
from portway.server.outbound.policy import Origin, OutboundPolicy

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LOCAL = OutboundPolicy(private_hosts=("127.0.0.1",), connect_timeout=5, read_timeout=5, max_response_bytes=1_000_000)


@asynccontextmanager
async def serving(peer: Peer) -> AsyncIterator[int]:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await peer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def answers(head: str, body: bytes = b"") -> Peer:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = f"HTTP/1.1 {head}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(text.encode() + body)
        await writer.drain()

    return peer


def resolves(*addresses: str) -> ClientOptions:
    async def resolver(host: str, port: int) -> Sequence[Address]:
        found = [literal(one) for one in addresses]
        return [one for one in found if one is not None]

    return ClientOptions(resolver=resolver)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:10.0.0.1"],
        ["169.254.169.254"],
        ["fd00:ec2::254"],
        ["93.184.216.34", "10.0.0.1"],
    ],
)
async def test_a_name_that_resolves_inside_is_refused_before_anything_is_connected(addresses: list[str]) -> None:
    async with (
        serving(answers("200 OK", b"secret")) as port,
        open_client(OutboundPolicy(), resolves(*addresses)) as client,
    ):
        with pytest.raises(OutboundRefused, match="'inside.example' has a") as refused:
            await client.get(f"http://inside.example:{port}/")
        assert not any(one in str(refused.value) for one in addresses)


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    asked: list[str] = []

    async def changing(host: str, port: int) -> Sequence[Address]:
        asked.append(host)
        address = literal("127.0.0.1")
        assert address is not None
        return [address]

    policy = replace(LOCAL, private_hosts=("models.lan",))
    async with (
        serving(answers("200 OK", b"hello")) as port,
        open_client(policy, ClientOptions(resolver=changing)) as client,
    ):
        answer = await client.get(f"http://models.lan:{port}/")
        assert answer.text == "hello"
        assert answer.request.headers["host"] == f"models.lan:{port}"
    assert asked == ["models.lan"]


async def test_a_private_address_is_refused_also_when_no_name_is_asked() -> None:
    async with serving(answers("200 OK")) as port, open_client(OutboundPolicy()) as client:
        for host in ("127.0.0.1", "2130706433", "0x7f000001", "localhost", "[::ffff:7f00:1]"):
            with pytest.raises(OutboundRefused):
                await client.get(f"http://{host}:{port}/")


async def test_redirects_are_checked_again() -> None:
    async with (
        serving(answers("302 Found\r\nlocation: http://169.254.169.254/latest")) as port,
        open_client(LOCAL) as client,
    ):
        with pytest.raises(OutboundRefused, match="metadata") as refused:
            await client.get(f"http://127.0.0.1:{port}/")
    found = refusal_in(RuntimeError()) or refusal_in(refused.value)
    assert isinstance(found, NotPermitted)


async def test_a_redirect_to_another_scheme_is_refused() -> None:
    async with serving(answers("302 Found\r\nlocation: file:///etc/passwd")) as port, open_client(LOCAL) as client:
        with pytest.raises((OutboundRefused, httpx2.UnsupportedProtocol)):
            await client.get(f"http://127.0.0.1:{port}/")


async def test_redirects_end() -> None:
    async with serving(answers("302 Found\r\nlocation: /again")) as port, open_client(LOCAL) as client:
        with pytest.raises(httpx2.TooManyRedirects):
            await client.get(f"http://127.0.0.1:{port}/")


async def test_a_pinned_client_goes_nowhere_else_and_follows_nothing() -> None:
    async with serving(answers("307 Moved\r\nlocation: /v2")) as port:
        options = ClientOptions(Origin.of(f"http://127.0.0.1:{port}"))
        async with open_client(LOCAL, options) as client:
            with pytest.raises(OutboundRefused, match="the key must not follow"):
                await client.post(f"http://127.0.0.1:{port}/")
            with pytest.raises(OutboundRefused, match="is not"):
                await client.get(f"http://127.0.0.1:{port + 1}/")


async def test_an_answer_that_is_too_large_is_cut() -> None:
    async with serving(answers("200 OK", b"x" * 2_000_000)) as port, open_client(LOCAL) as client:
        with pytest.raises(AnswerTooLarge):
            await client.get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_answers_are_read_and_bombs_are_cut(encoding: str) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    small = answers(f"200 OK\r\ncontent-encoding: {encoding}", pack(b"hello " * 1000))
    async with serving(small) as port, open_client(LOCAL) as client:
        assert (await client.get(f"http://127.0.0.1:{port}/")).content == b"hello " * 1000
    bomb = answers(f"200 OK\r\ncontent-encoding: {encoding}", pack(b"\0" * 200_000_000))
    async with serving(bomb) as port, open_client(LOCAL) as client:
        with pytest.raises(AnswerTooLarge):
            await client.get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "nonsense"])
async def test_other_compression_is_refused(encoding: str) -> None:
    async with (
        serving(answers(f"200 OK\r\ncontent-encoding: {encoding}", b"abc")) as port,
        open_client(LOCAL) as client,
    ):
        with pytest.raises(OutboundRefused, match="compressed"):
            await client.get(f"http://127.0.0.1:{port}/")


async def test_broken_compression_is_an_error_of_the_answer() -> None:
    async with (
        serving(answers("200 OK\r\ncontent-encoding: gzip", b"no gzip at all")) as port,
        open_client(LOCAL) as client,
    ):
        with pytest.raises(httpx2.DecodingError):
            await client.get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"])
async def test_a_server_that_drips_is_cut_off_by_the_total_time(head: bytes) -> None:
    begin = head or b"H"

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while not writer.is_closing():
            await writer.drain()
            writer.write(b"x")
            await asyncio.sleep(0.02)  # The peer's own slowness, which is what is tested.

    policy = replace(LOCAL, total_timeout=0.3, read_timeout=60)
    async with serving(drip) as port, open_client(policy) as client:
        with pytest.raises(httpx2.TimeoutException):
            await client.get(f"http://127.0.0.1:{port}/")


async def test_headers_without_end_are_refused() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nx-huge: ")
        while not writer.is_closing():
            writer.write(b"a" * 65536)
            await writer.drain()

    async with serving(flood) as port, open_client(LOCAL) as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get(f"http://127.0.0.1:{port}/")


async def test_a_name_that_does_not_resolve_is_a_connection_error() -> None:
    async def nowhere(host: str, port: int) -> Sequence[Address]:
        raise OSError("unknown")

    async with open_client(OutboundPolicy(), ClientOptions(resolver=nowhere)) as client:
        with pytest.raises(httpx2.ConnectError, match="cannot be resolved"):
            await client.get("http://gone.example/")


async def test_the_proxies_of_the_environment_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with serving(answers("200 OK", b"direct")) as port, open_client(LOCAL) as client:
        assert (await client.get(f"http://127.0.0.1:{port}/")).text == "direct"
