"""The adapters that the suite runs on, each behind the same few steps: say something on the platform, look at what the
platform shows."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import websockets

from portway.adapters.kit.backoff import Backoff
from portway.adapters.kit.dial import Dial
from portway.adapters.kit.link import Identity, Link, LinkEnded
from portway.adapters.kit.live import LiveRun, TextBlock
from portway.adapters.kit.live_types import LiveUpdate
from portway.adapters.kit.platform import Doubtful, Sent
from portway.adapters.kit.types import Inbound, LinkKind, LinkState, Outbound, Piece, SurfaceLimits, Target
from portway.adapters.web_chat.app import Options, serving
from portway.adapters.web_chat.settings import WebSettings
from tests.fakes.chat_host import ChatHost
from tests.waiting import until

CHAT = "web-conformance"


class Dialled(Protocol):
    """A host, as far as an adapter has to know it."""

    @property
    def address(self) -> str: ...

    @property
    def token(self) -> str: ...


class AdapterUnderTest(Protocol):
    """An adapter that runs, with one person in one chat of its platform."""

    surface: str

    async def say(self, text: str, key: str) -> None:
        """The person writes. Returns when the host has it; raises what the adapter says otherwise."""

    def shown(self) -> list[str]:
        """What the person sees as whole messages of the agent, in order: one that is there twice is in here twice."""

    def writing(self) -> str:
        """What the person sees of a message that is being written; empty on platforms that do not show that."""

    async def connected(self) -> None:
        """Returns when the adapter has its connection to the host."""

    async def over(self) -> str:
        """Returns when the adapter has given up, with the reason."""


Starter = Callable[[ChatHost, Path], AbstractAsyncContextManager[AdapterUnderTest]]


class Chat:
    """A platform in memory, which outlives its adapter. `recognises`: it knows a message that was sent twice."""

    def __init__(self, *, recognises: bool) -> None:
        self.recognises = recognises
        self.messages: list[tuple[str, str]] = []
        self.hold_answer: asyncio.Event | None = None
        self.calls = 0

    async def post(self, key: str, text: str) -> str:
        self.calls += 1
        if not (self.recognises and any(known == key for known, _ in self.messages)):
            self.messages.append((key, text))
        if self.hold_answer is not None:
            # The message is there, and the answer does not come.
            await self.hold_answer.wait()
        return f"message-{len(self.messages)}"


class ChatPlatform:
    """An adapter for `Chat`, as small as an adapter can be."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self.runs: dict[str, LiveRun] = {}
        self.state = LinkState(LinkKind.CONNECTING)
        self.typing = False

    async def send(self, piece: Piece) -> Sent:
        return Sent(await self._chat.post(piece.key, piece.text))

    async def act(self, outbound: Outbound) -> Sent:
        return Sent()

    async def was_sent(self, piece: Piece) -> Sent | None:
        # Platforms without an idempotency slot but with a history can look.
        if any(key == piece.key for key, _ in self._chat.messages):
            return Sent("found")
        raise Doubtful("the history does not reach that far")

    def run_changed(self, update: LiveUpdate) -> None:
        run = self.runs.setdefault(update.run_id, LiveRun(update.run_id, update.conversation_id))
        for event in update.events:
            run.apply(event)

    def typing_changed(self, target: Target, on: bool) -> None:
        self.typing = on

    def link_changed(self, state: LinkState) -> None:
        self.state = state


class KitAdapter:
    """The kit with the smallest adapter on it."""

    surface = "chat"

    def __init__(self, chat: Chat, platform: ChatPlatform, link: Link) -> None:
        self.chat = chat
        self.platform = platform
        self.link = link
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def say(self, text: str, key: str) -> None:
        inbound = Inbound(
            key=key,
            surface=self.surface,
            launcher_type="person",
            launcher_id=CHAT,
            conversation_id=CHAT,
            actor_id="somebody",
            text=text,
        )
        await self.link.submit(inbound)

    def shown(self) -> list[str]:
        return [text for _, text in self.chat.messages]

    def writing(self) -> str:
        open_runs = [run for run in self.platform.runs.values() if run.ended is None]
        return "".join(block.text for run in open_runs for block in run.blocks if isinstance(block, TextBlock))

    async def connected(self) -> None:
        await until(lambda: self.platform.state.kind is LinkKind.CONNECTED)

    async def over(self) -> str:
        return await self.ended

    async def run(self) -> None:
        try:
            await self.link.run(self.platform)
        except LinkEnded as error:
            self.ended.set_result(error.message)


@asynccontextmanager
async def kit_adapter(
    host: Dialled, folder: Path, *, chat: Chat, adapter_id: str = "chat"
) -> AsyncIterator[KitAdapter]:
    token = folder / "kit.token"
    token.write_text(host.token, encoding="ascii")
    dial = Dial(host.address, token)
    limits = SurfaceLimits(surface="chat", streaming=True, repeats_safely=chat.recognises)
    link = Link(dial, Identity(adapter_id, "chat", "1", live_updates=True), limits, Backoff(first=0.01, cap=0.05))
    adapter = KitAdapter(chat, ChatPlatform(chat), link)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(adapter.run())
        try:
            yield adapter
        finally:
            task.cancel()
    await dial.aclose()


def kit_starter(*, recognises: bool) -> Starter:
    @asynccontextmanager
    async def start(host: ChatHost, folder: Path) -> AsyncIterator[AdapterUnderTest]:
        async with kit_adapter(host, folder, chat=Chat(recognises=recognises)) as adapter:
            yield adapter

    return start


class WebPage:
    """The web chat with one page, which keeps what it sent until it is acknowledged, as the real one does."""

    surface = "web_chat"

    def __init__(self, port: int, cookie: str) -> None:
        self._address = f"ws://127.0.0.1:{port}/ws"
        self._headers = {"Cookie": cookie, "Origin": f"http://127.0.0.1:{port}"}
        self._socket: websockets.ClientConnection | None = None
        self.host_state: dict[str, Any] = {}
        self.items: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[int, str]] = {}
        self.after = ""
        self.answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.outbox: dict[str, str] = {}

    async def say(self, text: str, key: str) -> None:
        answer = self.answers.setdefault(key, asyncio.get_running_loop().create_future())
        frame = json.dumps({"t": "send", "key": key, "c": CHAT, "text": text})
        self.outbox[key] = frame
        await self._send(frame)
        got = await answer
        self.answers.pop(key, None)
        if got["t"] == "refused":
            raise ConnectionRefusedError(got["message"])

    def shown(self) -> list[str]:
        return [item["text"] for item in self.items.values() if item["role"] == "assistant"]

    def writing(self) -> str:
        return "".join(text for run in self.runs.values() for text in run.values())

    async def connected(self) -> None:
        await until(lambda: self.host_state.get("state") == "connected")

    async def over(self) -> str:
        await until(lambda: self.host_state.get("state") == "closed")
        return str(self.host_state["detail"])

    async def run(self) -> None:
        async with websockets.connect(self._address, additional_headers=self._headers, origin=None) as socket:
            self._socket = socket
            async for text in socket:
                await self._receive(json.loads(text))

    async def _send(self, frame: str) -> None:
        if self._socket is not None:
            await self._socket.send(frame)

    async def _receive(self, frame: dict[str, Any]) -> None:
        match frame["t"]:
            case "ready":
                self.host_state = frame["host"]
                await self._open()
            case "host":
                self.host_state = frame
                if frame["state"] == "connected":
                    await self._open()
            case "page" | "items":
                if frame["t"] == "page":
                    self.runs.clear()
                for item in frame["items"]:
                    self.items.setdefault(item["id"], item)
                self.after = frame["after"] or self.after
            case "run":
                self._show_run(frame)
            case "gone":
                self.runs.pop(frame["run"], None)
            case "ack" | "refused":
                self.outbox.pop(frame["key"], None)
                self.answers[frame["key"]].set_result(frame)

    async def _open(self) -> None:
        await self._send(json.dumps({"t": "open", "c": CHAT, "after": self.after}))

    def _show_run(self, frame: dict[str, Any]) -> None:
        run = self.runs.setdefault(frame["run"], {})
        if frame["fresh"]:
            run.clear()
        for block in frame["blocks"]:
            if "append" in block:
                run[block["i"]] += block["append"]
            elif block["type"] == "text":
                run[block["i"]] = block["text"]


@asynccontextmanager
async def web_page(host: ChatHost, folder: Path) -> AsyncIterator[AdapterUnderTest]:
    token = folder / "web.token"
    token.write_text(host.token, encoding="ascii")
    settings = WebSettings(listen="127.0.0.1:0")
    async with serving(settings, Options(host.address, token, folder / "web")) as chat:
        page = WebPage(chat.port, chat.sign_in())
        reading = asyncio.ensure_future(page.run())
        try:
            yield page
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError, websockets.ConnectionClosed):
                await reading


STARTERS: dict[str, Starter] = {
    "kit on a platform that recognises repetitions": kit_starter(recognises=True),
    "kit on a platform that does not": kit_starter(recognises=False),
    "web chat": web_page,
}
