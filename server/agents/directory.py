"""Agents in memory, for everything that happens to every event."""

from portway.server.agents.store import Agents
from portway.server.agents.types import Agent
from portway.server.storage_engine.remembered import Remembered

IN_MEMORY = 10_000


class AgentDirectory:
    """Answers from memory. Whoever changes an agent calls `forget` after the commit."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents
        self._known: Remembered[tuple[str, str], Agent] = Remembered(IN_MEMORY)

    async def get(self, workspace_id: str, agent_id: str) -> Agent:
        """Raises NotFound."""
        return await self._known.get((workspace_id, agent_id), lambda: self._agents.agent(workspace_id, agent_id))

    def forget(self, workspace_id: str, agent_id: str) -> None:
        self._known.forget((workspace_id, agent_id))
