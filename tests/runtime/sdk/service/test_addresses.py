"""Requests of runners go to the addresses that were looked at, and to no others. The servers are real."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
import pytest

from portway.rpc.addresses import Address, literal
from portway.runtime.sdk.service.addresses import AddressRefused, AddressRule, checked_transport

OWN = AddressRule("n8n")
ANY = AddressRule("vendor.example.com", private_addresses=True)
PUBLIC = AddressRule("vendor.example.com")


class Listener:
    """A server on one address of the loopback, which says which one, and counts connections."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.connections = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            body = self.address.encode()
            head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            writer.write(head + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class Names:
    """A resolver whose answer to each question is the next one; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [found for one in answer if (found := literal(one)) is not None]


@asynccontextmanager
async def listening(*addresses: str) -> AsyncIterator[tuple[int, list[Listener]]]:
    async with AsyncExitStack() as stack:
        listeners: list[Listener] = []
        port = 0
        for address in addresses:
            listener = Listener(address)
            server = await asyncio.start_server(listener.answer, address, port)
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
            listeners.append(listener)
        yield port, listeners


async def asked(rule: AddressRule, names: Names, url: str) -> str:
    async with httpx2.AsyncClient(transport=checked_transport(rule, names), trust_env=False) as client:
        return (await client.get(url)).text


async def test_the_connection_goes_to_the_address_that_was_checked_though_the_name_changes_its_mind() -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with listening("127.0.0.1", "127.0.0.2") as (port, (first, second)):
        assert await asked(ANY, names, f"http://vendor.example.com:{port}/") == "127.0.0.1"
        assert names.asked == ["vendor.example.com"]
        assert (first.connections, second.connections) == (1, 0)
        # Another connection asks again, and is checked again.
        assert await asked(ANY, names, f"http://vendor.example.com:{port}/") == "127.0.0.2"


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["fd12::1"],
        ["100.64.0.1"],
        ["93.184.216.34", "127.0.0.1"],
        ["127.0.0.1", "93.184.216.34"],
    ],
)
async def test_a_public_name_that_leads_inside_is_not_even_connected_to(answer: list[str]) -> None:
    async with listening("127.0.0.1") as (port, (listener,)):
        with pytest.raises(AddressRefused, match="private_addresses"):
            await asked(PUBLIC, Names(answer), f"http://vendor.example.com:{port}/")
        assert listener.connections == 0


@pytest.mark.parametrize("rule", [OWN, ANY, PUBLIC])
@pytest.mark.parametrize(
    "answer",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
    ],
)
async def test_some_addresses_are_never_asked_whatever_is_configured(rule: AddressRule, answer: str) -> None:
    with pytest.raises(AddressRefused):
        await asked(rule, Names([answer]), f"http://{rule.configured}:80/")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LOCALHOST.",
        "n8n",
        "dify.lan",
        "a.internal",
    ],
)
async def test_what_is_written_as_ones_own_may_be_private(host: str) -> None:
    async with listening("127.0.0.1") as (port, _):
        assert await asked(AddressRule(host), Names(["127.0.0.1"]), f"http://{host}:{port}/") == "127.0.0.1"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:7f00:1]", "localhost", "10.0.0.1", "2130706433"])
async def test_a_place_that_the_service_names_may_not_be_private_where_nobody_configured_it(host: str) -> None:
    async with listening("127.0.0.1") as (port, (listener,)):
        for rule in (PUBLIC, ANY):
            with pytest.raises(AddressRefused):
                await asked(rule, Names([host.strip("[]") if host != "localhost" else "::1"]), f"http://{host}:{port}/")
        assert listener.connections == 0


async def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    async with listening("127.0.0.2") as (port, _):
        assert await asked(ANY, Names(["127.0.0.1", "127.0.0.2"]), f"http://vendor.example.com:{port}/") == "127.0.0.2"


async def test_a_name_that_cannot_be_resolved_is_told_as_a_failed_connection() -> None:
    async def broken(host: str, port: int) -> Sequence[Address]:
        raise UnicodeError("label too long")

    async with httpx2.AsyncClient(transport=checked_transport(PUBLIC, broken), trust_env=False) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get("http://vendor.example.com/")
