"""The WebSocket of a page: reads its frames, sends what is new."""

import asyncio
import contextlib
import json

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from portway.adapters.kit.host import Host
from portway.adapters.kit.link import Link
from portway.adapters.kit.types import LinkState
from portway.adapters.web_chat import frames
from portway.adapters.web_chat.frames import (
    AnswerFrame,
    CancelFrame,
    Json,
    ListFrame,
    OlderFrame,
    OpenFrame,
    PageFrame,
    SendFrame,
    error_json,
    item_json,
    link_json,
    list_json,
)
from portway.adapters.web_chat.guard import SESSION
from portway.adapters.web_chat.inbound import answer_of, event_of
from portway.adapters.web_chat.limits import (
    FILES_A_MESSAGE,
    PATCH_PAUSE,
    SENDS_UNDER_WAY,
    SURFACE,
    TEXT_BYTES,
    UPLOAD_BYTES,
)
from portway.adapters.web_chat.rooms import Rooms
from portway.adapters.web_chat.viewer import Viewer
from portway.rpc.errors import NotFound, PortwayError, RateLimited

TRY_AGAIN_LATER = 1013
SERVICE_RESTART = 1012
UNSUPPORTED = 1003

log = structlog.get_logger("portway.web_chat")


class Sockets:
    """All open pages, at most `most`."""

    def __init__(self, rooms: Rooms, host: Host, link: Link, version: str, most: int) -> None:
        self._rooms = rooms
        self._host = host
        self._link = link
        self._version = version
        self._most = most
        self._pages: dict[Viewer, WebSocket] = {}

    def tell_all(self, state: LinkState) -> None:
        """The connection to the host came or went."""
        for viewer in self._pages:
            viewer.answer(link_json(state))

    async def close_all(self) -> None:
        """This process stops: the pages come back by themselves."""
        for socket in list(self._pages.values()):
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await socket.close(SERVICE_RESTART, "restart")

    async def serve(self, socket: WebSocket) -> None:
        """The endpoint. The guard has looked at who asks."""
        if len(self._pages) >= self._most:
            log.warning("a page was turned away: too many are open", most=self._most)
            await socket.close(TRY_AGAIN_LATER, "too many pages are open")
            return
        await socket.accept()
        viewer = Viewer(socket.scope[SESSION].user)
        self._pages[viewer] = socket
        try:
            await self._converse(socket, viewer)
        finally:
            del self._pages[viewer]
            self._rooms.leave(viewer)

    async def _converse(self, socket: WebSocket, viewer: Viewer) -> None:
        viewer.answer(self._greeting(viewer))
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(_send_news(socket, viewer), name="page sender")
            with contextlib.suppress(WebSocketDisconnect):
                await self._read(socket, viewer, group)
            sender.cancel()

    def _greeting(self, viewer: Viewer) -> Json:
        limits = {"upload": UPLOAD_BYTES, "text": TEXT_BYTES, "files": FILES_A_MESSAGE}
        host = link_json(self._link.state)
        return {"t": "ready", "user": viewer.user, "version": self._version, "limits": limits, "host": host}

    async def _read(self, socket: WebSocket, viewer: Viewer, group: asyncio.TaskGroup) -> None:
        room = asyncio.Semaphore(SENDS_UNDER_WAY)
        while True:
            text = await socket.receive_text()
            try:
                frame = frames.parse(text)
            except PortwayError as error:
                viewer.answer({"t": "error", "about": _about(text), **error_json(error)})
                continue
            if room.locked() and isinstance(frame, SendFrame):
                busy = RateLimited(f"{SENDS_UNDER_WAY} requests of this page wait already", retry_after=1.0)
                viewer.answer({"t": "refused", "key": frame.key, **error_json(busy)})
                continue
            await room.acquire()
            group.create_task(self._handle(frame, viewer, room), name="page request")

    async def _handle(self, frame: PageFrame, viewer: Viewer, room: asyncio.Semaphore) -> None:
        try:
            match frame:
                case SendFrame():
                    await self._take(frame, viewer)
                case AnswerFrame():
                    await self._answer(frame, viewer)
                case OpenFrame():
                    await self._rooms.open(viewer, frame.conversation_id, frame.after)
                case OlderFrame():
                    await self._show_older(frame, viewer)
                case CancelFrame():
                    await self._cancel(frame.run_id, viewer)
                case ListFrame():
                    page = await self._host.conversations(SURFACE, frame.token)
                    viewer.answer(list_json(page, frame.token))
        except PortwayError as error:
            viewer.answer({"t": "error", "about": _name_of(frame), **error_json(error)})
        finally:
            room.release()

    async def _take(self, frame: SendFrame, viewer: Viewer) -> None:
        try:
            accepted = await self._link.submit(event_of(frame, viewer.user))
        except PortwayError as error:
            viewer.answer({"t": "refused", "key": frame.key, **error_json(error)})
            return
        viewer.answer(
            {
                "t": "ack",
                "key": frame.key,
                "c": frame.conversation_id,
                "message": accepted.message_id,
                "run": accepted.run_id,
                "duplicate": accepted.duplicate,
            }
        )
        self._rooms.accepted(frame.conversation_id, accepted.run_id)

    async def _answer(self, frame: AnswerFrame, viewer: Viewer) -> None:
        shown = frame.answer.interaction_id
        try:
            accepted = await self._link.submit(answer_of(frame, viewer.user))
        except PortwayError as error:
            viewer.answer({"t": "answer_refused", "c": frame.conversation_id, "id": shown, **error_json(error)})
            return
        viewer.answer({"t": "answered", "c": frame.conversation_id, "id": shown, "run": accepted.run_id})
        self._rooms.accepted(frame.conversation_id, accepted.run_id)

    async def _show_older(self, frame: OlderFrame, viewer: Viewer) -> None:
        page = await self._host.items(frame.conversation_id, before=frame.before)
        items: list[object] = [item_json(item) for item in page.items]
        viewer.answer({"t": "older", "c": frame.conversation_id, "items": items, "before": page.before})

    async def _cancel(self, run_id: str, viewer: Viewer) -> None:
        if not frames.is_ours(await self._host.conversation_of(run_id)):
            raise NotFound.of("run", run_id)
        await self._host.cancel_run(run_id, "stopped in the web chat")
        viewer.answer({"t": "cancelled", "run": run_id})


async def _send_news(socket: WebSocket, viewer: Viewer) -> None:
    """Until the page is gone. While a send waits for a slow page, news gather in the shared state, joined."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await viewer.wake.wait()
            viewer.wake.clear()
            for frame in viewer.take():
                await socket.send_text(json.dumps(frame, ensure_ascii=False, separators=(",", ":")))
            if viewer.wedged:
                await socket.close(TRY_AGAIN_LATER, "the page reads too slowly")
                return
            await asyncio.sleep(PATCH_PAUSE)


def _about(text: str) -> str:
    """What a malformed frame wanted to be, as far as that can be told."""
    return next(
        (kind for kind in ("send", "open", "older", "cancel", "list", "answer") if f'"{kind}"' in text[:200]), "frame"
    )


def _name_of(frame: PageFrame) -> str:
    return type(frame).__name__.removesuffix("Frame").lower()
