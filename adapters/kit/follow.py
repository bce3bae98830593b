"""The runs whose live text comes over the connection, and how far each was heard: so that after a break it goes on from
there, and what was committed comes to the platform exactly once and in order."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace

from portway.adapters.kit.live_types import LiveEvent, LiveUpdate, RunEnded

MAX_RUNS = 512

Ask = Callable[[str, int], None]


class Follower:
    """At most `MAX_RUNS`; of the one that was silent for longest nothing is asked for again. `ask` asks the host for a
    run from behind a sequence."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._heard: OrderedDict[str, int] = OrderedDict()
        self._asked: dict[str, int] = {}

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._heard.items())

    def expect(self, run_id: str, *, unasked: bool) -> None:
        """A run answers an event of this adapter. `unasked`: the host tells of it by itself over this connection."""
        if run_id in self._heard:
            return
        self._note(run_id, 0)
        if not unasked:
            self._ask(run_id, 0)

    def watch(self, run_id: str, after: int) -> None:
        """Hear of a run from behind a sequence, whatever was heard of it before."""
        self._asked.pop(run_id, None)
        self._note(run_id, after)
        self._ask(run_id, after)

    def forget(self, run_id: str) -> bool:
        """Whether it was followed."""
        self._asked.pop(run_id, None)
        return self._heard.pop(run_id, None) is not None

    def heard(self, update: LiveUpdate) -> LiveUpdate:
        """What of an update is for the platform: no committed event twice, and none before the one that precedes it."""
        if update.error:
            self.forget(update.run_id)
            return update
        last = self._heard.get(update.run_id, 0)
        events: list[LiveEvent] = []
        missing = ended = False
        for event in update.events:
            if event.sequence:
                if event.sequence <= last:
                    continue
                if event.sequence > last + 1:
                    missing = True
                    break
                last = event.sequence
                ended = isinstance(event.change, RunEnded)
            events.append(event)
        if ended:
            self.forget(update.run_id)
        else:
            self._note(update.run_id, last)
        if missing and self._asked.get(update.run_id) != last:
            # Once for each place: the answer is on its way.
            self._asked[update.run_id] = last
            self._ask(update.run_id, last)
        return replace(update, events=tuple(events))

    def _note(self, run_id: str, sequence: int) -> None:
        self._heard[run_id] = sequence
        self._heard.move_to_end(run_id)
        if len(self._heard) > MAX_RUNS:
            dropped, _ = self._heard.popitem(last=False)
            self._asked.pop(dropped, None)
