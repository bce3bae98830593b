"""Which agent answers an event. The directories are kept by those who change them; here they are only asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from portway.rpc.errors import NotFound, Reason, WrongState
from portway.server.agents.types import Agent
from portway.server.bindings.types import BindingScope
from portway.server.events.facts import EDIT, EventFacts


@dataclass(frozen=True, slots=True)
class Candidate:
    """A binding that was looked at: whether it fits, and why it won, lost or does not fit."""

    binding_id: str
    agent_id: str
    scope: BindingScope
    fits: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The winner ('' for none), everything that was looked at, and two that are equally specific, if that is why."""

    binding_id: str = ""
    agent_id: str = ""
    reason: str = ""
    candidates: Sequence[Candidate] = ()
    ambiguous: tuple[str, ...] = ()


class Bindings(Protocol):
    """The bindings of a workspace, in memory."""

    async def resolve(self, facts: EventFacts) -> Resolution:
        """Which binding holds for the event. Ambiguity is an answer, not an error."""

    async def scoped_to_conversations(self, workspace_id: str) -> bool:
        """Whether any binding names a conversation, so that it matters which one the event belongs to."""


class Agents(Protocol):
    """The agents of a workspace, in memory."""

    async def get(self, workspace_id: str, agent_id: str) -> Agent:
        """Raises NotFound."""


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers: nobody where `agent` is missing. `resolution` is missing where the caller named the agent."""

    agent: Agent | None
    resolution: Resolution | None = None

    @property
    def binding_id(self) -> str:
        return self.resolution.binding_id if self.resolution else ""


class Router:
    """Finds the agent of an event."""

    def __init__(self, agents: Agents, bindings: Bindings) -> None:
        self._agents = agents
        self._bindings = bindings

    async def needs_conversation(self, facts: EventFacts, agent_id: str) -> bool:
        """Whether the conversation must be known before the agent can be."""
        return not agent_id and await self._bindings.scoped_to_conversations(facts.workspace_id)

    async def route(self, facts: EventFacts, agent_id: str) -> Route:
        """Nobody for an event that nobody listens to and nobody waits on.

        Raises NotFound (the named agent); WrongState: NO_BINDING, BINDING_AMBIGUOUS, AGENT_DISABLED.
        """
        if agent_id:
            return Route(_enabled(await self._agents.get(facts.workspace_id, agent_id)))
        resolution = await self._bindings.resolve(facts)
        if resolution.ambiguous:
            raise WrongState(
                f"Two bindings fit this event equally well: {' and '.join(resolution.ambiguous)}. Disable one of them, "
                "or give one a narrower scope (`portway bindings list`).",
                reason=Reason.BINDING_AMBIGUOUS,
                facts={f"binding_{index}": one for index, one in enumerate(resolution.ambiguous, 1)},
            )
        if not resolution.binding_id:
            # Nobody has to listen to edits: they concern the run of their message.
            if facts.expects_reply and facts.type != EDIT:
                raise _no_binding(facts, resolution)
            return Route(None, resolution)
        try:
            agent = await self._agents.get(facts.workspace_id, resolution.agent_id)
        except NotFound as error:
            raise WrongState(
                f"The binding {resolution.binding_id} names the agent {resolution.agent_id}, which does not exist. "
                "Create the agent or change the binding.",
                reason=Reason.NO_BINDING,
            ) from error
        return Route(_enabled(agent), resolution)


def _enabled(agent: Agent) -> Agent:
    if agent.spec.disabled:
        raise WrongState(
            f"The agent {agent.agent_id} is switched off. Switch it on, or bind another agent.",
            reason=Reason.AGENT_DISABLED,
        )
    return agent


def _no_binding(facts: EventFacts, resolution: Resolution) -> WrongState:
    where = f"surface {facts.surface!r}" if facts.surface else "the API"
    considered = (
        f"{len(resolution.candidates)} bindings were considered and none fits"
        if resolution.candidates
        else ("there are no bindings")
    )
    return WrongState(
        f"No agent is bound to {facts.type} from {where}: {considered}. Create a binding for it "
        "(`portway bindings create`), or name an agent in the request.",
        reason=Reason.NO_BINDING,
    )
