"""AgentService on the wire."""

from typing import Never

from portway.rpc.call import Call
from portway.rpc.cursor import CursorCodec
from portway.server.agents.config_secrets import masked
from portway.server.agents.directory import AgentDirectory
from portway.server.agents.manage import AgentManager
from portway.server.agents.store import Agents
from portway.server.agents.types import Agent
from portway.server.agents.wire import agent_message, draft_of
from portway.v1 import agent_pb2

DEFAULT_PAGE = 50


class AgentServicer:
    def __init__(self, manager: AgentManager, directory: AgentDirectory, agents: Agents, cursors: CursorCodec) -> None:
        self._manager = manager
        self._directory = directory
        self._agents = agents
        self._cursors = cursors

    async def CreateAgent(
        self, request: agent_pb2.CreateAgentRequest, call: Call[Never, Never]
    ) -> agent_pb2.CreateAgentResponse:
        agent = await self._manager.create(call.caller, draft_of(request.agent), request.request_id)
        return agent_pb2.CreateAgentResponse(agent=_shown(agent))

    async def GetAgent(
        self, request: agent_pb2.GetAgentRequest, call: Call[Never, Never]
    ) -> agent_pb2.GetAgentResponse:
        agent = await self._directory.get(call.caller.workspace_id, request.agent_id)
        return agent_pb2.GetAgentResponse(agent=_shown(agent))

    async def ListAgents(
        self, request: agent_pb2.ListAgentsRequest, call: Call[Never, Never]
    ) -> agent_pb2.ListAgentsResponse:
        workspace_id = call.caller.workspace_id
        listing = f"agents\0{workspace_id}"
        after = self._cursors.read_page(request.page_token, listing) if request.page_token else ""
        size = request.page_size or DEFAULT_PAGE
        found = await self._agents.page(workspace_id, after, size)
        return agent_pb2.ListAgentsResponse(
            agents=[_shown(agent) for agent in found],
            next_page_token=self._cursors.write_page(listing, found[-1].spec.name) if len(found) == size else "",
        )

    async def UpdateAgent(
        self, request: agent_pb2.UpdateAgentRequest, call: Call[Never, Never]
    ) -> agent_pb2.UpdateAgentResponse:
        agent = await self._manager.update(call.caller, draft_of(request.agent))
        return agent_pb2.UpdateAgentResponse(agent=_shown(agent))

    async def DeleteAgent(
        self, request: agent_pb2.DeleteAgentRequest, call: Call[Never, Never]
    ) -> agent_pb2.DeleteAgentResponse:
        await self._manager.delete(call.caller, request.agent_id)
        return agent_pb2.DeleteAgentResponse()


def _shown(agent: Agent) -> agent_pb2.Agent:
    return agent_message(agent, masked(agent.spec.config_json))
