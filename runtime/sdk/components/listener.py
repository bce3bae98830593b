"""Event listeners: they observe what happens, and answer nothing."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from portway.runtime.sdk.components.call import Caller, ComponentCall, PluginStorage
from portway.runtime.sdk.types.context import Actor, ConversationContext, EventContext, RunInput, Subject


@dataclass(frozen=True, slots=True)
class ObservedEvent:
    """An event that was accepted. `outcome` is what that led to: `run`, `steer`, `recorded`, `refused`."""

    sequence: int = 0
    event: EventContext = field(default_factory=EventContext)
    conversation: ConversationContext = field(default_factory=ConversationContext)
    actor: Actor = field(default_factory=Actor)
    subject: Subject = field(default_factory=Subject)
    input: RunInput = field(default_factory=RunInput)
    run_id: str = ""
    outcome: str = ""
    accept_time: datetime | None = None


class ListenerCall(ComponentCall):
    """Events are shown. `missed_count` events before them this listener will never see."""

    def __init__(
        self, caller: Caller, deadline: datetime | None, storage: PluginStorage | None, missed_count: int
    ) -> None:
        super().__init__(caller, deadline, None, storage)
        self.missed_count = missed_count


class EventListener(ABC):
    """A listener. A new instance is made for each call.

    Events come in order, and again until `observe` has returned: after a crash, a deadline or an exception it sees the
    same ones once more, so `event.event_id` or `sequence` must tell what it has dealt with.
    """

    @abstractmethod
    async def observe(self, events: Sequence[ObservedEvent], call: ListenerCall) -> None:
        """Sees events of one workspace, at most 64. It writes nothing but `call.storage`."""
