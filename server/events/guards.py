"""What refuses an event before an agent sees it: senders, groups, rates, texts."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from portway.rpc.identity import Caller
from portway.server.agents.types import Agent
from portway.server.audit.types import NewAuditRecord
from portway.server.bindings.patterns import is_found
from portway.server.events.facts import EventFacts
from portway.server.switches.directory import KillSwitches
from portway.server.switches.types import SwitchKind

_CHATS = 10_000
_MOMENTS = 64
_GROUPS = ("group", "channel")


@dataclass(frozen=True, slots=True)
class _Moment:
    """`count` messages between two times."""

    first: float
    last: float
    count: int


class Audit(Protocol):
    """Where decisions are written down."""

    def record(self, record: NewAuditRecord) -> None:
        """Queue a record. Never blocks and never raises."""


class Guards:
    """Applies the guards of agents.

    Rates are counted in memory per agent, sender and chat; the least recent are forgotten.
    """

    def __init__(self, audit: Audit, switches: KillSwitches, clock: Callable[[], float] = time.monotonic) -> None:
        self._audit = audit
        self._switches = switches
        self._clock = clock
        self._seen: OrderedDict[tuple[str, str, str, str], deque[_Moment]] = OrderedDict()

    def refusal(self, agent: Agent, facts: EventFacts, counting: bool = True) -> str:
        """Why the event is refused; '' where it is not. `counting`: the event counts for the rate."""
        return self._stopped(agent, facts) or self._unwelcome(agent, facts, counting)

    def _stopped(self, agent: Agent, facts: EventFacts) -> str:
        by_agent = self._switches.refusal(agent.workspace_id, SwitchKind.AGENT, agent.agent_id)
        if by_agent or not facts.bot_id:
            return by_agent
        return self._switches.refusal(facts.workspace_id, SwitchKind.BOT, facts.bot_id)

    def _unwelcome(self, agent: Agent, facts: EventFacts, counting: bool) -> str:
        guards = agent.spec.guards
        if facts.actor_id in guards.denied_sender_ids:
            return f"the sender {facts.actor_id!r} is denied"
        if guards.allowed_sender_ids and facts.actor_id not in guards.allowed_sender_ids:
            return f"the sender {facts.actor_id!r} is not among the allowed ones"
        if facts.launcher_type in _GROUPS:
            if facts.launcher_id in guards.denied_group_ids:
                return f"the group {facts.launcher_id!r} is denied"
            if guards.allowed_group_ids and facts.launcher_id not in guards.allowed_group_ids:
                return f"the group {facts.launcher_id!r} is not among the allowed ones"
        for pattern in guards.denied_inbound_patterns:
            if is_found(pattern, facts.text):
                return "the text matches a denied pattern"
        if guards.messages_per_window and self._too_many(agent, facts, counting):
            return f"more than {guards.messages_per_window} messages in {guards.window_seconds:g} s"
        return ""

    def tell(self, caller: Caller, agent: Agent, facts: EventFacts, refusal: str) -> None:
        """Write the refusal down."""
        self._audit.record(
            NewAuditRecord(
                workspace_id=facts.workspace_id,
                action="event.accept",
                resource=f"agent {agent.agent_id}",
                allowed=False,
                reason=refusal,
                role=caller.role.name.lower(),
                subject=facts.actor_id,
                token_id=caller.token_id,
                peer=caller.peer,
                scope=facts.chat_key,
            )
        )

    def _too_many(self, agent: Agent, facts: EventFacts, counting: bool) -> bool:
        guards = agent.spec.guards
        key = (facts.workspace_id, agent.agent_id, facts.actor_id, facts.chat_key or facts.conversation_id)
        now = self._clock()
        seen = self._seen.pop(key, None) or deque()
        while seen and seen[0].last <= now - guards.window_seconds:
            seen.popleft()
        full = sum(moment.count for moment in seen) >= guards.messages_per_window
        if counting and not full:
            _count(seen, now, guards.window_seconds / _MOMENTS)
        if seen:
            self._seen[key] = seen
        if len(self._seen) > _CHATS:
            self._seen.popitem(last=False)
        return full


def _count(seen: "deque[_Moment]", now: float, together: float) -> None:
    """One more. Past a number of them, what came nearly together counts as one moment: the newest, so that none is
    forgotten too early."""
    if len(seen) >= _MOMENTS or (seen and now - seen[-1].first < together and len(seen) > _MOMENTS // 2):
        last = seen.pop()
        seen.append(_Moment(last.first, now, last.count + 1))
    else:
        seen.append(_Moment(now, now, 1))
