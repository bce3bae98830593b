"""Owners of sockets, and programs that call them from inside."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from portway.clients.box import Box
from portway.rpc.channel import PortwayChannel
from portway.rpc.errors import PortwayError
from portway.rpc.status import errors_by_meaning
from portway.v1 import socket_pb2 as pb
from portway.v1 import socket_pb2_grpc
from tests.box.box_process import BoxProcess
from tests.box.inside import Inside

Call = grpc.aio.StreamStreamCall[pb.ServeSocketRequest, pb.ServeSocketResponse]


@asynccontextmanager
async def owner_of(box: BoxProcess, role: str = "admin") -> AsyncIterator[Box]:
    async with Box(box.address, token=box.tokens[role].text) as owner:
        yield owner


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says what it hears."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


def calls(where: str | int, body: str) -> str:
    """A program that has a connection `c` and an `all_of(c)`."""
    family, address = ("AF_INET", f"('127.0.0.1', {where})") if isinstance(where, int) else ("AF_UNIX", repr(where))
    return f"""
import os, socket, sys, time
def connected():
    c = socket.socket(socket.{family})
    c.connect({address})
    return c
def all_of(c):
    data = b""
    while piece := c.recv(65536):
        data += piece
    return data
c = connected()
{body}
"""


class RawOwner:
    """Speaks the stream frame by frame, as a careless or hostile owner may."""

    def __init__(self, channel: PortwayChannel) -> None:
        self.call: Call = socket_pb2_grpc.SocketServiceStub(channel).ServeSocket()

    async def listen(self, inside: Inside, name: str = "raw", **more: object) -> pb.SocketListening:
        listen = pb.SocketListen(session_id=inside.session_id, name=name, **more)  # type: ignore[arg-type]
        await self.say(listen=listen)
        return (await self.hear()).listening

    async def say(self, connection_id: int = 0, **kind: object) -> None:
        await self.call.write(pb.ServeSocketRequest(connection_id=connection_id, **kind))  # type: ignore[arg-type]

    async def hear(self) -> pb.ServeSocketResponse:
        with errors_by_meaning():
            frame = await self.call.read()
        assert isinstance(frame, pb.ServeSocketResponse), frame
        return frame

    async def end(self) -> PortwayError | None:
        """Reads to the end of the stream; the error that it ended with."""
        try:
            with errors_by_meaning():
                while await self.call.read() is not grpc.aio.EOF:
                    pass
        except PortwayError as error:
            return error
        return None
