"""A registry whose answers a test writes: for what a sound one never does. It refuses what the protocol refuses."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

TOKEN = "Bearer a-token-of-this-registry"


@dataclass
class Said:
    """An answer. `stalls`: the body's end never comes, and the connection stays."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    stalls: bool = False
    length: int | None = None


@dataclass
class ScriptedRegistry:
    """`answers` by path; without one it is 404. With `wants_token`, paths below /v2/ want what /token gives."""

    port: int = 0
    answers: dict[str, Said] = field(default_factory=dict)
    wants_token: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    connections: int = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                    method, target, _version = head.split("\r\n", 1)[0].split(" ")
                    lines = [line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line]
                    headers = {name.lower(): value for name, value in lines}
                    await self._answer(method, target, headers, reader, writer)
        finally:
            self.connections -= 1
            writer.close()

    async def _answer(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        path = target.partition("?")[0]
        authorization = headers.get("authorization", "")
        self.asked.append((target, authorization))
        said = self.answers.get(path, Said(404))
        if method != "GET":
            said = Said(405)
        elif self.wants_token and path.startswith("/v2/") and authorization != TOKEN:
            challenge = f'Bearer realm="http://{self.host}/token",service="scripted"'
            said = Said(401, headers={"www-authenticate": challenge})
        length = len(said.body) if said.length is None else said.length
        extra = "".join(f"{name}: {value}\r\n" for name, value in said.headers.items())
        writer.write(f"HTTP/1.1 {said.status} Said\r\ncontent-length: {length}\r\n{extra}\r\n".encode() + said.body)
        await writer.drain()
        if said.stalls:
            # Until the other side goes away.
            await reader.read()
        if length != len(said.body):
            raise ConnectionError


@contextlib.asynccontextmanager
async def scripted_registry() -> AsyncIterator[ScriptedRegistry]:
    registry = ScriptedRegistry()
    server = await asyncio.start_server(registry.serve, "127.0.0.1", 0)
    registry.port = server.sockets[0].getsockname()[1]
    async with server:
        yield registry
        server.close()
