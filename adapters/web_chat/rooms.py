"""The conversations that somebody looks at. The transcript in the host is the only source of messages: every page gets
exactly what is behind its cursor, in order, whatever was lost or came twice on the way."""

import asyncio
from collections import deque
from typing import Protocol

import structlog

from portway.adapters.kit.host import Host, Page
from portway.adapters.kit.live import Applied, LiveRun, TextBlock
from portway.adapters.kit.live_types import LiveUpdate
from portway.adapters.web_chat.viewer import Viewer
from portway.rpc.errors import InvalidInput, PortwayError

PAGE = 50
CATCH_UP = 100
_CATCH_UP_PAGES = 20
_WORKERS = 4
_AGAIN = 1.0
_RUNS_A_ROOM = 64

log = structlog.get_logger("portway.web_chat")


class Watches(Protocol):
    """Live text of runs, as the connection to the host gives it."""

    def watch(self, run_id: str, after_sequence: int) -> None: ...

    def unwatch(self, run_id: str) -> None: ...


class Room:
    """One conversation and the pages that show it. `tail` is the cursor after the last message that they all have;
    `over` are the last runs that ended; `doubtful`: the connection was cut, and runs may have ended meanwhile."""

    def __init__(self, conversation_id: str) -> None:
        self.conversation_id = conversation_id
        self.viewers: set[Viewer] = set()
        self.runs: dict[str, LiveRun] = {}
        self.over: deque[str] = deque(maxlen=_RUNS_A_ROOM)
        self.doubtful = False
        self.typing = False
        self.tail = ""
        self.lock = asyncio.Lock()

    def show(self, run: LiveRun) -> None:
        for viewer in self.viewers:
            viewer.touch(run)


class Rooms:
    """All rooms; there are never more than open pages."""

    def __init__(self, host: Host, watches: Watches) -> None:
        self._host = host
        self._watches = watches
        self._rooms: dict[str, Room] = {}
        self._due: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()

    async def run(self) -> None:
        """Reads transcripts again where something changed."""
        async with asyncio.TaskGroup() as group:
            for number in range(_WORKERS):
                group.create_task(self._work(), name=f"rooms {number}")

    async def open(self, viewer: Viewer, conversation_id: str, after: str) -> None:
        """The viewer gets what is behind `after`, or the last page, and from then on whatever comes. Raises what the
        host answers; the viewer is in the room all the same, and hears of it when the host is back."""
        self.leave(viewer)
        viewer.enter(conversation_id)
        room = self._rooms.get(conversation_id)
        if room is None:
            room = self._rooms[conversation_id] = Room(conversation_id)
        room.viewers.add(viewer)
        async with room.lock:
            page, reset = await self._first_page(conversation_id, after)
            if viewer.conversation_id != conversation_id:
                return
            viewer.show_page(page, reset=reset)
            if not room.tail:
                room.tail = page.after
            await self._find_runs(room)
        for run in room.runs.values():
            viewer.touch(run)
        viewer.show_typing(room.typing)

    def leave(self, viewer: Viewer) -> None:
        room = self._rooms.get(viewer.conversation_id)
        if room is None:
            return
        room.viewers.discard(viewer)
        if not room.viewers:
            del self._rooms[room.conversation_id]
            for run_id in room.runs:
                self._watches.unwatch(run_id)

    def accepted(self, conversation_id: str, run_id: str) -> None:
        """The host has a message: it will stand in the transcript, and a run will answer it."""
        room = self._rooms.get(conversation_id)
        if room is None:
            return
        if run_id and run_id not in room.runs and run_id not in room.over and len(room.runs) < _RUNS_A_ROOM:
            run = room.runs[run_id] = LiveRun(run_id, conversation_id)
            room.show(run)
        self.refresh_soon(conversation_id)

    def run_changed(self, update: LiveUpdate) -> None:
        """Live text of a run. Of conversations that nobody looks at nothing is kept."""
        room = self._rooms.get(update.conversation_id)
        if update.error:
            self._cannot_watch(update)
            return
        if room is None or update.run_id in room.over:
            return
        run = room.runs.get(update.run_id)
        if run is None:
            if len(room.runs) >= _RUNS_A_ROOM:
                return
            run = room.runs[update.run_id] = LiveRun(update.run_id, update.conversation_id)
        messages = _finished_messages(run)
        results = {run.apply(event) for event in update.events}
        if Applied.GAP in results:
            # It began before somebody looked: the beginning is asked for.
            self._watches.watch(run.run_id, run.sequence)
        if Applied.CHANGED not in results:
            return
        room.show(run)
        if run.ended is not None or _finished_messages(run) > messages:
            self.refresh_soon(room.conversation_id)

    def typing_changed(self, conversation_id: str, on: bool) -> None:
        """The host's typing sign. A room that is opened later learns of it with the next one."""
        room = self._rooms.get(conversation_id)
        if room is None or room.typing is on:
            return
        room.typing = on
        for viewer in room.viewers:
            viewer.show_typing(on)

    def _cannot_watch(self, update: LiveUpdate) -> None:
        """The host does not show the run, or no longer: its messages come with the transcript all the same."""
        log.warning("live text of a run ended early", run_id=update.run_id, reason=update.error)
        for room in self._rooms.values():
            if update.run_id in room.runs:
                self._end_run(room, update.run_id)
                self.refresh_soon(room.conversation_id)

    def refresh_soon(self, conversation_id: str) -> None:
        if conversation_id in self._rooms and conversation_id not in self._waiting:
            self._waiting.add(conversation_id)
            self._due.put_nowait(conversation_id)

    def connected(self) -> None:
        """The host is back: what was missed is read."""
        for room in self._rooms.values():
            room.doubtful = True
            self.refresh_soon(room.conversation_id)

    async def bring_up_to_date(self, conversation_id: str) -> None:
        """Returns when every open page has been given what is in the transcript now. Raises what the host answers."""
        room = self._rooms.get(conversation_id)
        if room is None:
            return
        async with room.lock:
            # Runs that are over now: what they said last is in the transcript that is read now.
            over = {run.run_id for run in room.runs.values() if run.ended is not None}
            if room.doubtful:
                # A run may have ended while the host was away; all that are known here began before this question.
                known = set(room.runs)
                over |= known - set(await self._host.open_runs(conversation_id))
                room.doubtful = False
            await self._read_new(room)
            for run_id in over:
                self._end_run(room, run_id)

    async def show_again(self, conversation_id: str) -> None:
        """What stands in the transcript has changed: each open page gets its end anew. Raises what the host answers."""
        room = self._rooms.get(conversation_id)
        if room is None:
            return
        async with room.lock:
            page = await self._host.items(conversation_id, limit=PAGE)
            room.tail = page.after or room.tail
            for viewer in room.viewers:
                viewer.show_page(page, reset=True)
        for run in room.runs.values():
            room.show(run)

    async def _work(self) -> None:
        while True:
            conversation_id = await self._due.get()
            self._waiting.discard(conversation_id)
            try:
                await self.bring_up_to_date(conversation_id)
            except PortwayError as error:
                log.info("a transcript could not be read yet", conversation_id=conversation_id, detail=error.message)
                asyncio.get_running_loop().call_later(_AGAIN, self.refresh_soon, conversation_id)

    async def _first_page(self, conversation_id: str, after: str) -> tuple[Page, bool]:
        if after:
            try:
                page = await self._host.items(conversation_id, after=after, limit=CATCH_UP)
                if len(page.items) < CATCH_UP and page.after:
                    return page, False
            except InvalidInput:
                # A cursor of another host or of a time before a restore.
                log.info("a page came with a cursor that the host does not know", conversation_id=conversation_id)
        return await self._host.items(conversation_id, limit=PAGE), True

    async def _read_new(self, room: Room) -> None:
        for _ in range(_CATCH_UP_PAGES):
            try:
                page = await self._host.items(room.conversation_id, after=room.tail, limit=CATCH_UP)
            except InvalidInput:
                # The host has other data than before, as after a restore: the pages begin again.
                room.tail = ""
                for viewer in room.viewers:
                    viewer.resync()
                return
            room.tail = page.after or room.tail
            if page.items:
                for viewer in room.viewers:
                    viewer.add_items(page.items, room.tail)
            if len(page.items) < CATCH_UP:
                return

    async def _find_runs(self, room: Room) -> None:
        for run_id in await self._host.open_runs(room.conversation_id):
            if run_id not in room.runs and len(room.runs) < _RUNS_A_ROOM:
                room.runs[run_id] = LiveRun(run_id, room.conversation_id)
                self._watches.watch(run_id, 0)

    def _end_run(self, room: Room, run_id: str) -> None:
        room.over.append(run_id)
        if room.runs.pop(run_id, None) is not None:
            self._watches.unwatch(run_id)
            for viewer in room.viewers:
                viewer.drop_run(run_id)


def _finished_messages(run: LiveRun) -> int:
    return sum(1 for block in run.blocks if isinstance(block, TextBlock) and block.item_id)
