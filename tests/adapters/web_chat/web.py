"""The web chat in this process, against the scripted host."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import websockets

from portway.adapters.web_chat.app import Options, RunningChat, serving
from portway.adapters.web_chat.settings import WebSettings
from tests.fakes.chat_host import ChatHost
from tests.waiting import PATIENCE

CHAT = "web-0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Web:
    """A web chat that serves, and ways to speak to it."""

    chat: RunningChat
    host: ChatHost
    cookie: str

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.chat.port}"

    @asynccontextmanager
    async def client(self, *, signed_in: bool = True, origin: bool = True) -> AsyncIterator[httpx.AsyncClient]:
        """An HTTP client that behaves as the page does, unless told otherwise."""
        headers = {}
        if signed_in:
            headers["Cookie"] = self.cookie
        if origin:
            headers["Origin"] = self.origin
        async with httpx.AsyncClient(base_url=self.origin, headers=headers, timeout=30) as client:
            yield client

    @asynccontextmanager
    async def page(self, **headers: str) -> AsyncIterator["Page"]:
        """A WebSocket, as the page has one. It is ready when the block begins."""
        sent = {"Cookie": self.cookie, "Origin": self.origin} | headers
        address = f"ws://127.0.0.1:{self.chat.port}/ws"
        async with websockets.connect(address, additional_headers=sent, max_size=None) as socket:
            page = Page(socket)
            page.ready = await page.next("ready")
            yield page


class Page:
    """One page. `next("ack")` is the next frame of a kind; frames of other kinds are kept for later."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket
        self.ready: dict[str, Any] = {}
        self._kept: list[dict[str, Any]] = []

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"t": kind, **fields}))

    async def next(self, kind: str, **fields: Any) -> dict[str, Any]:
        def fits(frame: dict[str, Any]) -> bool:
            return frame["t"] == kind and all(frame.get(name) == value for name, value in fields.items())

        for index, kept in enumerate(self._kept):
            if fits(kept):
                return self._kept.pop(index)
        async with asyncio.timeout(PATIENCE):
            while True:
                frame: dict[str, Any] = json.loads(await self.socket.recv())
                if fits(frame):
                    return frame
                self._kept.append(frame)

    async def open(self, conversation: str = CHAT, after: str = "") -> dict[str, Any]:
        await self.send("open", c=conversation, after=after)
        return await self.next("page", c=conversation)

    async def say(self, text: str, key: str, conversation: str = CHAT, **more: Any) -> dict[str, Any]:
        await self.send("send", key=key, c=conversation, text=text, **more)
        return await self.next("ack", key=key)

    async def items_until(self, count: int) -> list[dict[str, Any]]:
        """New messages as they come, until there are so many."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found += (await self.next("items"))["items"]
        return found


@asynccontextmanager
async def web_chat(host: ChatHost, folder: Path, **settings: Any) -> AsyncIterator[Web]:
    token = folder / "token"
    token.write_text(host.token, encoding="ascii")
    options = Options(host.address, token, folder / "web")
    async with serving(WebSettings(**({"listen": "127.0.0.1:0"} | settings)), options) as chat:
        yield Web(chat, host, chat.sign_in())
