"""What people are told whose event a guard refuses, where their agent has a text for it."""

import time
from collections import OrderedDict
from collections.abc import Callable

from portway.server.agents.types import Agent
from portway.server.events.facts import EventFacts
from portway.server.runs.masking import mask_text
from portway.server.runs.notices import Situation, notice_text

AGAIN_SECONDS = 60.0
_CHATS = 10_000


class Refusals:
    """One text a minute for each sender and chat: who is refused a hundred times is not answered a hundred times."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: OrderedDict[tuple[str, str, str, str], float] = OrderedDict()

    def text(self, agent: Agent, facts: EventFacts) -> str:
        """What is said now; '' for nothing."""
        if not facts.delivers or not facts.expects_reply:
            return ""
        text = notice_text(agent.spec, Situation.REFUSED)
        key = (facts.workspace_id, agent.agent_id, facts.actor_id, facts.chat_key or facts.conversation_id)
        now = self._clock()
        if not text or now - self._told.get(key, -AGAIN_SECONDS) < AGAIN_SECONDS:
            return ""
        self._told[key] = now
        self._told.move_to_end(key)
        if len(self._told) > _CHATS:
            self._told.popitem(last=False)
        return mask_text(agent.spec.guards.masked_outbound_patterns, text)
