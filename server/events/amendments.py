"""Edited and recalled messages: what they are about, and who would answer them."""

from dataclasses import dataclass
from typing import Protocol

from portway.rpc.errors import NotFound, PortwayError
from portway.rpc.ids import has_prefix
from portway.server.agents.types import Agent, EditPolicy
from portway.server.events.facts import AMENDMENTS, MESSAGE, EventFacts
from portway.server.events.routing import Agents, Route
from portway.server.events.store import EventLog
from portway.server.events.types import Event
from portway.server.runs.types import Run

# Reasons of a cancel that people are not told of: they did it themselves, and see what came instead.
EDITED = "its message was edited"
RECALLED = "its message was recalled"
QUIET_REASONS = frozenset((EDITED, RECALLED))


@dataclass(frozen=True, slots=True)
class Amendment:
    """`original` is the event of the message, where it is known; `agent` the one that its `run` is of."""

    original: Event | None
    agent: Agent | None
    run: Run | None = None

    @property
    def policy(self) -> EditPolicy:
        return self.agent.spec.edit_policy if self.agent is not None else EditPolicy.IGNORE


class Runs(Protocol):
    async def run(self, workspace_id: str, run_id: str) -> Run:
        """Raises NotFound."""


class Amendments:
    """Finds what an edit or a recall is about."""

    def __init__(self, events: EventLog, runs: Runs, agents: Agents) -> None:
        self._events = events
        self._runs = runs
        self._agents = agents

    async def of(self, facts: EventFacts) -> Amendment:
        """`facts` with their conversation, if it is known."""
        original = await self._original(facts)
        if original is None or not original.run_id:
            return Amendment(original, None)
        try:
            run = await self._runs.run(facts.workspace_id, original.run_id)
            return Amendment(original, await self._agents.get(facts.workspace_id, run.agent_id), run)
        except NotFound:
            return Amendment(original, None)

    async def _original(self, facts: EventFacts) -> Event | None:
        workspace_id, name = facts.workspace_id, facts.subject_id
        if facts.subject_type != "message" or not name:
            return None
        try:
            if has_prefix(name, "msg"):
                # The host's own id of the message, for who has no platform.
                found = await self._events.event(workspace_id, "evt_" + name.removeprefix("msg_"))
                return found if found.type == MESSAGE else None
            return await self._events.message(workspace_id, facts.conversation_id, name)
        except NotFound:
            return None


def is_amendment(facts: EventFacts) -> bool:
    """Whether the event changes a message that was said before."""
    return facts.type in AMENDMENTS


async def bound_route(router: "Router", facts: EventFacts, agent_id: str) -> Route | None:
    """Who listens to the edit or recall itself, as to any other event; nothing where nobody does."""
    try:
        route = await router.route(facts, agent_id)
    except PortwayError:
        if agent_id:
            raise
        return None
    return route if route.agent is not None else None


class Router(Protocol):
    async def route(self, facts: EventFacts, agent_id: str) -> Route:
        """Raises NotFound, WrongState."""
