"""An event listener: it counts what happens in a workspace, by day and type, each event once."""

import json
from collections.abc import Sequence
from typing import Any

from portway.runtime.sdk import EventListener, ListenerCall, ObservedEvent

KEY = "tally.json"


class Tally(EventListener):
    """Counts and the last number that they contain are written together: an event that is shown again counts once."""

    async def observe(self, events: Sequence[ObservedEvent], call: ListenerCall) -> None:
        known: dict[str, Any] = json.loads(await call.storage.get(KEY) or '{"sequence": 0, "missed": 0, "days": {}}')
        fresh = [event for event in events if event.sequence > known["sequence"]]
        if not fresh and not call.missed_count:
            return
        known["missed"] += call.missed_count
        for event in fresh:
            known["sequence"] = event.sequence
            day = known["days"].setdefault(f"{event.accept_time:%Y-%m-%d}" if event.accept_time else "unknown", {})
            day[event.event.type] = day.get(event.event.type, 0) + 1
        print(f"counted {len(fresh)} events up to number {known['sequence']}")
        await call.storage.set(KEY, json.dumps(known).encode())
