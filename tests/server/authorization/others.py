"""What another workspace has: one thing of every kind that has an id, made as its operator makes it where one can."""

from dataclasses import dataclass

from portway.rpc.channel import PortwayChannel, open_channel
from portway.rpc.ids import new_id
from portway.server.approvals.store import ask_approval
from portway.server.approvals.types import NewApproval
from portway.server.deliveries.store import enqueue_delivery
from portway.server.deliveries.types import NewDelivery
from portway.server.interactions.store import add_interaction
from portway.server.interactions.types import NewInteraction
from portway.server.runs.types import Fence
from portway.server.storage_engine.transaction import Transaction
from portway.v1 import (
    agent_pb2,
    artifact_pb2,
    binding_pb2,
    conversation_pb2,
    event_pb2,
    model_pb2,
    options_pb2,
    run_pb2,
    schedule_pb2,
    skill_pb2,
    token_pb2,
    tool_pb2,
    workspace_pb2,
)
from tests.asking import ask, upload
from tests.fakes.runtime_server import RUNNER
from tests.server.authorization.world import OTHER, World
from tests.server.callers import make_token
from tests.server.hosting import a_message
from tests.waiting import until_told

MISSING = {
    "agent": "nobody",
    "skill": "nothing",
    "tool": "nothing",
    "server": "nothing",
    "provider": "nothing",
    "model": "nothing",
    "user": "nobody",
    "workspace": "nowhere",
    "session": "nothing",
    "binding": "bnd_none",
}


@dataclass(frozen=True, slots=True)
class Others:
    """`real` are ids of the other workspace by their kind, `token` is its operator's."""

    real: dict[str, str]
    token: str

    def missing(self, kind: str) -> str:
        """An id of the same form that nothing has."""
        prefix, mark, _ = self.real[kind].partition("_")
        return MISSING.get(kind) or (new_id(prefix) if mark else "nothing")


async def other_workspace(world: World) -> Others:
    """With everything that it takes to be told from nothing."""
    host = world.host
    workspace = workspace_pb2.Workspace(workspace_id=OTHER, name="Other")
    await ask(host.channel, workspace_pb2.CreateWorkspaceRequest(workspace=workspace))
    token = (await make_token(host, "operator", OTHER)).secret
    async with open_channel(host.address, token=token) as channel:
        real = {"workspace": OTHER, **await _configured(channel), **await _talked(world, channel)}
    return Others(real, token)


async def _configured(channel: PortwayChannel) -> dict[str, str]:
    agent = agent_pb2.Agent(agent_id="helper", name="Helper", runner_id=RUNNER)
    await ask(channel, agent_pb2.CreateAgentRequest(agent=agent))
    binding = binding_pb2.Binding(scope=binding_pb2.BINDING_SCOPE_BOT, scope_id="b", agent_id="helper")
    bound = await ask(channel, binding_pb2.CreateBindingRequest(binding=binding))
    start = artifact_pb2.CreateArtifactRequest(start=artifact_pb2.CreateArtifactStart(name="f.txt"))
    artifact = await upload(channel, start, artifact_pb2.CreateArtifactRequest(data=b"theirs"))
    user = workspace_pb2.User(user_id="theirs", name="Theirs", role=options_pb2.ROLE_MEMBER)
    await ask(channel, workspace_pb2.CreateUserRequest(user=user))
    member = await ask(channel, token_pb2.CreateTokenRequest(name="t", role=options_pb2.ROLE_MEMBER))
    skill = skill_pb2.Skill(name="theirs", description="Theirs.", instructions="Do it.")
    await ask(channel, skill_pb2.CreateSkillRequest(skill=skill))
    provider = model_pb2.ModelProvider(provider_id="theirs", kind="openai", base_url="https://example.com/v1")
    await ask(channel, model_pb2.CreateModelProviderRequest(model_provider=provider))
    model = model_pb2.Model(model_id="theirmodel", provider_id="theirs", name="m", type=model_pb2.MODEL_TYPE_LLM)
    await ask(channel, model_pb2.CreateModelRequest(model=model))
    server = tool_pb2.McpServer(
        server_id="theirs", url="https://example.com/mcp", transport=tool_pb2.MCP_TRANSPORT_STREAMABLE_HTTP
    )
    await ask(channel, tool_pb2.CreateMcpServerRequest(mcp_server=server))
    schedule = schedule_pb2.Schedule(name="Daily", cron="0 0 1 1 *", agent_id="helper")
    planned = await ask(channel, schedule_pb2.CreateScheduleRequest(schedule=schedule))
    return {
        "agent": "helper",
        "binding": bound.binding.binding_id,
        "artifact": artifact.artifact.ref.artifact_id,
        "user": "theirs",
        "token": member.token.token_id,
        "skill": "theirs",
        "provider": "theirs",
        "model": "theirmodel",
        "server": "theirs",
        "tool": "mcp.theirs.x",
        "schedule": planned.schedule.schedule_id,
    }


async def _talked(world: World, channel: PortwayChannel) -> dict[str, str]:
    request = event_pb2.SubmitEventRequest(event=a_message("theirs"), idempotency_key="k", agent_id="helper")
    accepted = await ask(channel, request)

    async def runs() -> bool:
        run = (await ask(channel, run_pb2.GetRunRequest(run_id=accepted.run_id))).run
        return bool(run.state == run_pb2.RUN_STATE_RUNNING)

    await until_told(runs)
    said = await ask(channel, conversation_pb2.ListMessagesRequest(conversation_id=accepted.conversation_id))
    found = {
        "event": accepted.event_id,
        "run": accepted.run_id,
        "conversation": accepted.conversation_id,
        "item": said.items[0].item_id,
        "delivery": new_id("dlv"),
        "approval": new_id("apr"),
        "interaction": "q1",
        "session": f"{OTHER}-session",
    }
    run = await world.host.parts.stores.runs.run(OTHER, accepted.run_id)
    fence = Fence(OTHER, run.run_id, run.attempt, run.epoch)
    await world.host.parts.stores.database.writer.run(lambda tx: _asked(tx, fence, found))
    return found


def _asked(tx: Transaction, fence: Fence, found: dict[str, str]) -> None:
    """What takes an adapter and a run that asks, put where they put it."""
    enqueue_delivery(
        tx,
        NewDelivery(
            workspace_id=OTHER,
            delivery_id=found["delivery"],
            conversation_id=found["conversation"],
            surface="s",
            bot_id="",
            target=b"",
            payload=b"",
            run_id=found["run"],
        ),
    )
    far = tx.now + 3_600_000_000
    ask_approval(
        tx,
        fence,
        NewApproval(
            approval_id=found["approval"],
            call_id="c",
            title="May it?",
            digest="00",
            details=b"{}",
            approver="{}",
            expire_time=far,
        ),
    )
    add_interaction(
        tx,
        fence,
        NewInteraction(
            interaction_id=found["interaction"],
            conversation_id=found["conversation"],
            event_id=found["event"],
            agent_id="helper",
            actor_id="",
            request=b"",
            item_id="",
            delivery_id="",
            expire_time=far,
        ),
    )
