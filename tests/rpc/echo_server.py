"""A server of the small contract with a servicer whose behaviour the request asks for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from portway.rpc.binding import Service
from portway.rpc.call import Call
from portway.rpc.channel import PortwayChannel, open_channel
from portway.rpc.identity import Caller, Role
from portway.rpc.limits import Limits
from portway.rpc.serving import RunningServer, TlsConfig, serve
from portway.rpc.tokens import FixedTokens, mint_token
from tests.rpc.contract import ECHO, EchoMessage

MEMBER = mint_token("member")
ADMIN = mint_token("admin")
SECRET_OF_A_BUG = "the password is hunter2"


@dataclass
class EchoServicer:
    """`raises` is raised by `Say`; `release` lets calls with the text `wait` go on, and
    `waiting` and `ended` tell that one is in there and out again. `seen` is what happened inside."""

    raises: BaseException | None = None
    release: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[str] = field(default_factory=list)
    calls: list[Call[Any, Any]] = field(default_factory=list)

    async def Say(self, request: Any, call: Call[Any, Any]) -> Any:
        self.calls.append(call)
        if self.raises is not None:
            raise self.raises
        if request.text == "wait":
            await self._wait()
        if request.text == "huge":
            return EchoMessage(data=b"x" * 5_000_000)
        return request

    async def Count(self, request: Any, call: Call[Any, Any]) -> None:
        for number in range(request.count):
            await call.write(EchoMessage(count=number))
        if request.text == "wait":
            await self._wait()
        if request.text == "fail":
            raise self.raises or ValueError(SECRET_OF_A_BUG)

    async def Collect(self, call: Call[Any, Any]) -> Any:
        count = 0
        while (message := await call.read()) is not None:
            self.seen.append(message.text)
            self.waiting.set()
            count += 1
        self.seen.append("committed")
        return EchoMessage(count=count)

    async def Chat(self, call: Call[Any, Any]) -> None:
        while (message := await call.read()) is not None:
            await call.write(message)

    async def Relay(self, call: Call[Any, Any]) -> None:
        while (raw := await call.read_bytes()) is not None:
            await call.write_bytes(raw)

    async def _wait(self) -> None:
        self.waiting.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise
        finally:
            self.ended.set()
        self.seen.append("finished")


class Stub:
    """Calls of the small contract. `raw=True` sends and receives bytes."""

    def __init__(self, channel: PortwayChannel, *, raw: bool = False) -> None:
        self._channel = channel
        self._coders: dict[str, Callable[..., Any]] = (
            {}
            if raw
            else {
                "request_serializer": EchoMessage.SerializeToString,
                "response_deserializer": EchoMessage.FromString,
            }
        )

    def method(self, name: str, kind: str = "unary_unary", service: str = ECHO.full_name) -> Any:
        return getattr(self._channel, kind)(f"/{service}/{name}", **self._coders)


@dataclass
class EchoServer:
    server: RunningServer
    servicer: EchoServicer
    member: PortwayChannel
    admin: PortwayChannel
    stranger: PortwayChannel

    @property
    def stub(self) -> Stub:
        return Stub(self.member)


@asynccontextmanager
async def echo_server(
    servicer: EchoServicer | None = None,
    *,
    address: str = "127.0.0.1:0",
    limits: Limits | None = None,
    tls: TlsConfig | None = None,
    grace: float = 5.0,
    **options: Any,
) -> AsyncIterator[EchoServer]:
    servicer = servicer or EchoServicer()
    tokens = FixedTokens(
        [
            (MEMBER.text, Caller(Role.MEMBER, "default", MEMBER.token_id, "tester")),
            (ADMIN.text, Caller(Role.ADMIN, "default", ADMIN.token_id)),
        ]
    )
    service = Service(ECHO, servicer, raw_methods=options.pop("raw_methods", frozenset()))
    async with serve([service], address=address, authenticator=tokens, limits=limits, tls=tls, grace=grace) as server:
        dialled = server.address
        async with (
            open_channel(dialled, token=MEMBER.text, message_bytes=64 * 1024 * 1024, **options) as member,
            open_channel(dialled, token=lambda: ADMIN.text, **options) as admin,
            open_channel(dialled, **options) as stranger,
        ):
            yield EchoServer(server, servicer, member, admin, stranger)
