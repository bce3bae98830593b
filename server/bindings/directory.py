"""The bindings of each workspace in memory, arranged so that an event looks only at those that could be meant."""

from collections.abc import Iterator, Sequence

from portway.rpc.errors import NotFound
from portway.server.agents.directory import AgentDirectory
from portway.server.agents.types import Agent
from portway.server.bindings.resolve import Bound, resolve
from portway.server.bindings.store import Bindings
from portway.server.bindings.types import GLOBAL_WORKSPACE, Binding, BindingScope
from portway.server.events.facts import EventFacts
from portway.server.events.routing import Resolution
from portway.server.storage_engine.remembered import Remembered

WORKSPACES_IN_MEMORY = 1_000
_WIDE = (BindingScope.GLOBAL, BindingScope.WORKSPACE)


class _Arranged:
    """The bindings of one workspace by what they are for."""

    def __init__(self, bindings: Sequence[Bound]) -> None:
        self.narrow_to_conversations = False
        self._wide: list[Bound] = []
        self._narrow: dict[tuple[BindingScope, str], list[Bound]] = {}
        for bound in bindings:
            spec = bound.binding.spec
            if spec.scope in _WIDE:
                self._wide.append(bound)
                continue
            self._narrow.setdefault((spec.scope, spec.scope_id), []).append(bound)
            if spec.scope is BindingScope.CONVERSATION and not spec.disabled:
                self.narrow_to_conversations = True

    def looked_at(self, facts: EventFacts) -> Iterator[Bound]:
        yield from self._wide
        yield from self._narrow.get((BindingScope.BOT, facts.bot_id), ())
        yield from self._narrow.get((BindingScope.CHANNEL, facts.channel_id), ())
        yield from self._narrow.get((BindingScope.CONVERSATION, facts.conversation_id), ())


class BindingDirectory:
    """Answers from memory. Whoever changes a binding, or an agent that one names, calls `forget` after the commit."""

    def __init__(self, bindings: Bindings, agents: AgentDirectory) -> None:
        self._bindings = bindings
        self._agents = agents
        self._arranged: Remembered[str, _Arranged] = Remembered(WORKSPACES_IN_MEMORY)

    async def resolve(self, facts: EventFacts) -> Resolution:
        """Which binding holds for the event. Ambiguity is an answer, not an error."""
        arranged = await self._of(facts.workspace_id)
        return resolve(facts, arranged.looked_at(facts))

    async def scoped_to_conversations(self, workspace_id: str) -> bool:
        """Whether any binding names a conversation, so that it matters which one the event belongs to."""
        return (await self._of(workspace_id)).narrow_to_conversations

    def forget(self, workspace_id: str) -> None:
        """Its bindings, or agents that they name, have changed."""
        if workspace_id == GLOBAL_WORKSPACE:
            self._arranged.forget_all()
        else:
            self._arranged.forget(workspace_id)

    async def _of(self, workspace_id: str) -> _Arranged:
        return await self._arranged.get(workspace_id, lambda: self._read(workspace_id))

    async def _read(self, workspace_id: str) -> _Arranged:
        considered = await self._bindings.considered(workspace_id)
        return _Arranged([await self._bound(workspace_id, binding) for binding in considered])

    async def _bound(self, workspace_id: str, binding: Binding) -> Bound:
        try:
            agent: Agent | None = await self._agents.get(workspace_id, binding.spec.agent_id)
        except NotFound:
            agent = None
        return bound_to(binding, agent)


def bound_to(binding: Binding, agent: Agent | None) -> Bound:
    """The binding with its agent's event types where it has none of its own."""
    event_types = binding.spec.event_types or (agent.spec.event_types if agent else ())
    return Bound(binding, event_types, missing=agent is None)
