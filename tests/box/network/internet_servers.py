"""What stands for the internet in tests: a few servers in a network namespace of their own. Run there as a program."""

import asyncio
import json
import struct
import sys
from typing import cast

ECHO, HTTP, SILENT, NAMES = 7, 80, 9, 53
TALKER = 17


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write(b"<end>")
    writer.close()


async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks first, then says 64 MiB, as far as somebody takes it."""
    writer.write(b"hello\n")
    for _ in range(1024):
        writer.write(bytes(65_536))
        await writer.drain()
    writer.close()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each request with what came, byte by byte; keeps the connection unless it is told not to."""
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            break
        lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        body = b""
        if "chunked" in headers.get("transfer-encoding", ""):
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        said = json.dumps({"line": lines[0], "headers": headers, "body": body.decode("latin-1")}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
        await writer.drain()
        if headers.get("connection") == "close":
            break
    writer.close()


class Names(asyncio.DatagramProtocol):
    """Tells the address of `public.test` and one of the machine's for everything else."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(answer(data, self._address), addr)


def answer(question: bytes, address: str) -> bytes:
    at = 12
    while question[at]:
        at += 1 + question[at]
    name, kind = question[12 : at + 1], question[at + 1 : at + 3]
    found = kind == b"\0\1"
    packed = bytes(int(part) for part in (address if b"public" in name else "127.0.0.1").split("."))
    record = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 60, 4) + packed if found else b""
    return question[:2] + struct.pack(">HHHHH", 0x8180, 1, int(found), 0, 0) + question[12 : at + 5] + record


async def main(addresses: list[str]) -> None:
    loop = asyncio.get_running_loop()
    for address in addresses:
        for port, serve in ((ECHO, echo), (HTTP, tell), (SILENT, silence), (443, echo), (25, echo), (TALKER, talk)):
            await asyncio.start_server(serve, address, port)
    await loop.create_datagram_endpoint(lambda: Names(addresses[0]), local_addr=(addresses[0], NAMES))
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
