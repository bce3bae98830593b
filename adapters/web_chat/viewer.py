"""One open page: what is still to be sent to it. Everything is bounded; a page that reads slowly gets joined text."""

import asyncio
from collections import deque
from collections.abc import Sequence

from portway.adapters.kit.host import Item, Page
from portway.adapters.kit.live import LiveRun
from portway.adapters.web_chat.frames import Json, item_json
from portway.adapters.web_chat.limits import WAITING_ANSWERS, WAITING_ITEMS
from portway.adapters.web_chat.run_patch import Seen, patch


class Viewer:
    """`wake` is set when there is something to send; `wedged` when the page reads so little that it must start over."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.conversation_id = ""
        self.wake = asyncio.Event()
        self.wedged = False
        self._answers: deque[Json] = deque()
        self._items: list[Item] = []
        self._after = ""
        self._runs: dict[str, LiveRun] = {}
        self._seen: dict[str, Seen] = {}
        self._gone: list[str] = []
        self._typing: bool | None = None

    def answer(self, frame: Json) -> None:
        """An answer to this page alone."""
        if len(self._answers) >= WAITING_ANSWERS:
            self.wedged = True
        else:
            self._answers.append(frame)
        self.wake.set()

    def enter(self, conversation_id: str) -> None:
        """The page shows another conversation, or the same anew: what was waiting for it has no meaning any more."""
        self.conversation_id = conversation_id
        self._items.clear()
        self._runs.clear()
        self._seen.clear()
        self._gone.clear()
        self._typing = None

    def show_page(self, page: Page, *, reset: bool) -> None:
        """The answer to opening: `reset` tells the page to forget what it has. It forgets the runs in any case, so they
        are told from their beginning afterwards."""
        self._runs.clear()
        self._seen.clear()
        self.answer(
            {
                "t": "page",
                "c": self.conversation_id,
                "items": [item_json(item) for item in page.items],
                "before": page.before,
                "after": page.after,
                "reset": reset,
            }
        )

    def add_items(self, items: Sequence[Item], after: str) -> None:
        self._items.extend(items)
        self._after = after
        if len(self._items) > WAITING_ITEMS:
            self.resync()
        self.wake.set()

    def resync(self) -> None:
        """The page is to open its conversation again, from where it is."""
        self._items.clear()
        self.answer({"t": "resync", "c": self.conversation_id})

    def touch(self, run: LiveRun) -> None:
        """Something about a run changed, or the page should learn of it."""
        self._runs[run.run_id] = run
        self.wake.set()

    def show_typing(self, on: bool) -> None:
        """Only the newest counts."""
        self._typing = on
        self.wake.set()

    def drop_run(self, run_id: str) -> None:
        """A run is over and its messages are in the transcript. What it did last is still told before that."""
        self._gone.append(run_id)
        self.wake.set()

    def take(self) -> list[Json]:
        """Everything to send now, in the order in which the page must read it."""
        frames = list(self._answers)
        self._answers.clear()
        for run_id, run in self._runs.items():
            # Before the messages: the page knows which of them it has been showing already.
            news = patch(run, self._seen.setdefault(run_id, Seen()))
            if news is not None:
                frames.append(news)
        self._runs.clear()
        if self._items:
            items: list[object] = [item_json(item) for item in self._items]
            frames.append({"t": "items", "c": self.conversation_id, "items": items, "after": self._after})
            self._items.clear()
        for run_id in self._gone:
            self._seen.pop(run_id, None)
            frames.append({"t": "gone", "c": self.conversation_id, "run": run_id})
        self._gone.clear()
        if self._typing is not None:
            frames.append({"t": "typing", "c": self.conversation_id, "on": self._typing})
            self._typing = None
        return frames
