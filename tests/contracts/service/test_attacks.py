"""Services that are hostile or broken. Whatever they send, the run fails with a published code, soon, and in bounded
memory; the next message is answered by the same process."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from functools import cache
from pathlib import Path
from time import time
from typing import Any

import pytest

from portway.v1 import runtime_pb2, runtime_pb2_grpc
from tests.contracts.service.conftest import Bench, Subject
from tests.fakes.model_api import Answer
from tests.fakes.services.api import KEY, Asked, document

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "echo: hello there"
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
MAX_RESIDENT_KB = 400 * 1024


@asynccontextmanager
async def raw(peer: Peer) -> AsyncIterator[str]:
    """A server below HTTP; every connection is closed at the end."""
    writers: list[asyncio.StreamWriter] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await peer(reader, writer)
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes the connection hard, in the middle of the answer."""
    writer.write(SSE + chunk(b": hello\n\n"))
    await writer.drain()
    writer.transport.abort()


async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then, for ever: never silent, and never done."""
    writer.write(SSE)
    while True:
        writer.write(chunk(b":\n"))
        await writer.drain()
        await asyncio.sleep(0.02)


async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One line without an end."""
    writer.write(SSE)
    while True:
        writer.write(chunk(b"x" * 65536))
        await writer.drain()


async def nonsense(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await writer.drain()


async def headers_without_end(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"x-more: " + b"y" * 8000 + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize(
    ("peer", "codes"),
    [
        # Whether the answer had begun when the connection broke is a matter of luck.
        (reset, {"service.bad_output", "service.unavailable"}),
        (drip, {"service.timeout"}),
        (flood, {"service.bad_output", "service.too_large"}),
        (nonsense, {"service.bad_output", "service.unavailable"}),
        (headers_without_end, {"service.bad_output", "service.unavailable"}),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
async def test_connections_that_are_none(attacked: Subject, peer: Peer, codes: set[str]) -> None:
    # Only what never ends must run out of time.
    config: dict[str, Any] = {"total_seconds": 0.7} if peer is drip else {}
    async with raw(peer) as url:
        run = await attacked.ask(**{attacked.vendor.url_field: url}, **config)
    assert run.error.code in codes, run.results
    assert run.error.retryable


@cache
def bomb(layers: int) -> bytes:
    data = b"data: " + b"0" * 60_000_000
    for _ in range(layers):
        data = gzip.compress(data, 1)
    return data


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "br", "deflate"])
async def test_bombs_do_not_go_off(bench: Bench, attacked: Subject, encoding: str) -> None:
    kind = "application/json" if attacked.vendor.runner == "n8n" else "text/event-stream"
    headers = {"content-type": kind, "content-encoding": encoding}
    packed = bomb(encoding.count("gzip") or 1)
    attacked.fake.will(Answer((packed,), 200, headers), Answer((packed,), 500, headers))
    for codes in ({"service.bad_output", "service.too_large"}, {"service.unavailable"}):
        run = await attacked.ask()
        assert run.error.code in codes, run.results
    assert await resident_kb(bench, attacked) < MAX_RESIDENT_KB
    assert (await attacked.ask()).message.startswith(TEXT)


async def resident_kb(bench: Bench, attacked: Subject) -> int:
    """How much the plugin's process ever held."""
    stub = runtime_pb2_grpc.RuntimeServiceStub(bench.channel)
    request = runtime_pb2.GetPluginRequest(plugin_id=f"portway/{attacked.vendor.runner}")
    pid = (await stub.GetPlugin(request)).plugin.pid
    status = await asyncio.to_thread(Path(f"/proc/{pid}/status").read_text)
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


async def test_a_packed_answer_is_read_all_the_same(attacked: Subject) -> None:
    whole = attacked.fake.answer(await asked(attacked))
    body = b"".join(piece for piece in whole.pieces if isinstance(piece, bytes))
    packed = gzip.compress(body)
    pieces = tuple(packed[at : at + 11] for at in range(0, len(packed), 11))
    attacked.fake.will(Answer(pieces, 200, {**whole.headers, "content-encoding": "gzip"}))
    assert (await attacked.ask()).message.startswith(TEXT)


async def asked(attacked: Subject) -> Asked:
    await attacked.ask()
    last: Asked = attacked.fake.messages()[-1]
    return last


async def test_json_without_end_is_no_answer(attacked: Subject) -> None:
    deep = b"[" * 200_000
    for body in (deep, b'{"a":' * 100_000, b"NaN", b"1" * 10_000):
        for kind, data in (("application/json", body), ("text/event-stream", b"data: " + body + b"\n\n")):
            attacked.fake.will(
                Answer((data,), 200, {"content-type": kind}), Answer((data,), 400, {"content-type": kind})
            )
            run = await attacked.ask(**attacked.vendor.plain if kind == "application/json" else {})
            assert run.error.code in ("service.bad_output", "runner.empty_output") or run.message, (kind, run.results)
            assert (await attacked.ask()).error.code == "service.bad_request"


async def test_every_status_has_a_published_code(attacked: Subject) -> None:
    known = {400: "bad_request", 401: "auth", 403: "auth", 404: "not_found", 405: "bad_request", 409: "conflict"}
    known |= {410: "not_found", 412: "conflict", 413: "too_large", 415: "bad_request", 418: "bad_request"}
    known |= {422: "bad_request", 423: "conflict", 429: "rate_limited", 451: "bad_request", 500: "unavailable"}
    known |= {501: "unavailable", 503: "unavailable", 529: "unavailable", 599: "unavailable"}
    for status, code in known.items():
        attacked.fake.will(Answer((b"",), status, {}))
        run = await attacked.ask()
        assert run.error.code == f"service.{code}", (status, run.error)


async def test_a_pause_is_waited_for_only_where_it_is_short(attacked: Subject) -> None:
    before = len(attacked.fake.messages())
    for pause in ("86400", formatdate(time() + 3600, usegmt=True), "soon", "-", "inf", "nan"):
        attacked.fake.will(document({"message": "busy"}, 429, retry_after=pause))
        run = await attacked.ask()
        assert run.error.code == "service.rate_limited" and run.error.retryable, run.error
    assert len(attacked.fake.messages()) == before + 6
    attacked.fake.will(document({"message": "busy"}, 429, retry_after=formatdate(time() - 60, usegmt=True)))
    assert (await attacked.ask()).message.startswith(TEXT)


async def test_a_first_byte_may_take_as_long_as_is_configured(attacked: Subject) -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw(silent) as url:
        run = await attacked.ask(**{attacked.vendor.url_field: url}, first_byte_seconds=0.3)
    assert run.error.code == "service.timeout"
    assert "first_byte_seconds" in run.error.message


async def test_a_name_that_leads_to_a_clouds_credentials_is_not_asked(attacked: Subject) -> None:
    for host in ("169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "0.0.0.0", "[::]", "2852039166"):
        run = await attacked.ask(**{attacked.vendor.url_field: f"http://{host}/v1"}, private_addresses=True)
        assert run.error.code == "service.misconfigured", (host, run.error)
        assert not run.error.retryable and KEY not in str(run.results)
